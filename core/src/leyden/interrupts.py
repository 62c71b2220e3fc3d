"""Signals: Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 end a run at the next batch, with what it has done saved; a second one at once."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from leyden.messages import notify

if TYPE_CHECKING:
    from leyden.trainer import Trainer

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
_USER_SIGNAL = getattr(signal, "SIGUSR1", None)


_ECHO_SECONDS = 1.0
"""For how long the same signal is one and the same: a scheduler's reaches a rank directly and by way of its launcher."""
_ECHO_OF_CTRL_C_SECONDS = 0.3
"""Likewise of Ctrl-C, where there are several ranks; whoever means it twice is slower."""


class Terminated(SystemExit):
    """SIGTERM, SIGHUP or SIGUSR1 ended the run, and what it had done is saved.

    It is a ``SystemExit`` of code 128 + the signal's number (143 for SIGTERM), so that a script that does not catch it ends as
    shells and clusters expect of a process that was terminated, without a traceback; ``except Exception`` passes it by.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


@dataclass
class Received:
    """The signals that came in this run; all that a handler does is to write here."""

    number: int = 0
    """The first one; 0 if none came."""

    at: float = 0.0
    """When, by ``time.monotonic``."""

    expired: bool = False
    """Whether ``grace_s`` is over, so that the signal that comes next is no echo of the first."""

    agreed: bool = False
    """Whether the run ends between two steps, so that its state is a whole one; not so where a second signal ends it at once."""

    previous: dict[int, Any] = field(default_factory=dict)
    """The handlers that were installed before, by signal."""

    def ended_by(self) -> str:
        """What the user calls it."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name


@contextmanager
def deferred_interrupt(trainer: Trainer) -> Iterator[None]:
    """Inside, a first signal sets ``trainer.interrupt_requested``, which the loops heed after each batch; a second one raises,
    and so does one that comes before training starts.

    Afterwards the handlers are those from before. For Ctrl-C, a handler that is not Python's own is left alone; for SIGTERM and
    SIGHUP one that was installed is called when the run has saved, and an ignored signal stays ignored (``nohup``). Outside of
    the main thread nothing is done, for Python runs handlers there only. SIGUSR1, which would end the process, is treated so
    where the user has no handler for it, or the environment says that it asks for the job to be queued again.
    """
    received = trainer.received = Received()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    main = threading.get_ident()
    echo_of_ctrl_c = _ECHO_OF_CTRL_C_SECONDS if trainer.world_size > 1 else 0.0

    def expire(number: int) -> None:
        received.expired = True
        signal.pthread_kill(main, number)

    def handler(number: int, frame: FrameType | None) -> None:
        starting = trainer.stage == "fit" and trainer.fit_loop is None
        echoes = echo_of_ctrl_c if number == signal.SIGINT else _ECHO_SECONDS
        if number == received.number and not received.expired and time.monotonic() - received.at < echoes:
            return
        if received.at or starting:  # there is nothing to wait for
            _raise(received, number, frame)
        received.number, received.at = number, time.monotonic()
        trainer.interrupt_requested = True
        if trainer.grace_s is not None and number != signal.SIGINT:
            deadline = threading.Timer(trainer.grace_s, expire, (number,))
            deadline.daemon = True
            deadline.start()
            received.previous[-1] = deadline
        again = "interrupt once more to stop at once" if number == signal.SIGINT else "a second one stops at once"
        said = "interrupted" if number == signal.SIGINT else received.ended_by()
        with suppress(RuntimeError):  # it came while something was being printed
            notify("LY008", f"{said}: the run stops after this batch; {again}")

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        received.previous[signal.SIGINT] = signal.default_int_handler
    for number in _ENDING:
        before = signal.getsignal(number)
        # None is a handler that is not Python's. The user's own for SIGUSR1 rarely means that the run is to end.
        ends = number != _USER_SIGNAL or number == trainer.environment.requeue_signal
        if before is signal.SIG_DFL or (callable(before) and ends):
            received.previous[number] = before
    mine = [number for number in received.previous if number > 0]
    for number in mine:
        signal.signal(number, handler)
    try:
        yield
        if received.at:  # it came after the last batch, in a hook of the end; the run is complete, and its process is to end
            received.agreed = True
            _raise(received, received.number, None)
    finally:
        deadline = received.previous.pop(-1, None)
        if deadline is not None:
            deadline.cancel()
        for number in mine:
            if signal.getsignal(number) is handler:  # one that was installed meanwhile stays
                signal.signal(number, received.previous[number])


def stop(trainer: Trainer) -> None:
    """Called by the loops at a step boundary once a signal came: saves what was done and raises.

    Where several processes take part it tells the others and returns until all have come to the batch where they stop.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
        Terminated: it was SIGTERM or SIGHUP.
    """
    received = trainer.received
    received.number = trainer.strategy.request_stop(received.number or signal.SIGINT)
    done = trainer.progress.total_batches
    evaluating = trainer.stage != "fit" or trainer.validating or trainer.sanity_checking
    if not trainer.strategy.stops_here(done, done if evaluating else done + 1):
        return
    if trainer.stage == "fit" and not trainer.sanity_checking:
        _save(trainer)
        if trainer.is_global_zero and received.number == trainer.environment.requeue_signal:
            trainer.environment.requeue()
    received.agreed = True
    _raise(received, received.number, None)


def _save(trainer: Trainer) -> None:
    from leyden.callback import Callback

    received = trainer.received
    reason = received.ended_by()
    late = trainer.grace_s is not None and received.at and time.monotonic() - received.at >= trainer.grace_s
    if late:
        newest = trainer.known_checkpoint("last")
        notify(
            "LY015", f"{reason}: grace_s={trainer.grace_s:g} is over, so nothing more is saved; the newest checkpoint: {newest!r}"
        )
        return
    for callback in trainer.callbacks:
        if not isinstance(callback, Callback):
            continue
        path = callback.save_before_stop(trainer)
        if path is not None:
            notify("LY015", f"{reason}: the state after step {trainer.global_step} is saved as {path}")
            return


def _raise(received: Received, number: int, frame: FrameType | None) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    before = received.previous.get(number)
    if callable(before):
        before(number, frame)  # may end the process in its own way
    raise Terminated(number)


def in_notebook() -> bool:
    """Whether the code runs in a cell of a notebook."""
    return "ipykernel" in sys.modules
