"""What becomes of a run whose logger or callback fails."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from leyden.binding import Hook, Participant
from leyden.logger import Logger
from leyden.masking import masked_text
from leyden.messages import add_note, notify
from leyden.plugins import brought_by

if TYPE_CHECKING:
    from leyden.trainer import Trainer

POLICIES = ("raise", "quarantine")
USUAL = {"logger": "quarantine", "callback": "raise"}
"""Whose errors end a run unless the Trainer was told otherwise: a service that is down is no reason to, a callback is."""

_BEFORE_THE_FIRST_STEP = frozenset(
    ("setup", "on_load_checkpoint", "on_fit_start", "on_sanity_check_start", "on_sanity_check_end", "on_train_start")
)


def is_policy(given: Any) -> bool:
    """Whether ``given`` is a policy for all, or a dict of them by kind."""
    if isinstance(given, Mapping):
        return all(kind in USUAL and policy in POLICIES for kind, policy in given.items())
    return given in POLICIES


@dataclass(frozen=True)
class Failure:
    """A logger or a callback that is left out."""

    plugin: Any
    who: str
    where: str
    """The method that raised."""
    step: int
    """Optimizer steps done by then."""
    error: str
    """The class and the message of what it raised."""

    def __str__(self) -> str:
        return f"{self.who}, whose {self.where} raised {self.error} after step {self.step}"


class Quarantine:
    """The loggers and callbacks of a Trainer that are left out because they failed.

    Before the first step every error is raised: a mistake in the set-up is better known at once. ``fit`` begins with nobody
    left out; a ``validate``, ``test`` or ``predict`` after it leaves out whom it left out.
    """

    def __init__(self, trainer: Trainer, given: str | Mapping[str, str] | None) -> None:
        self.policy: dict[str, str] = dict.fromkeys(USUAL, given) if isinstance(given, str) else {**USUAL, **(given or {})}
        self.failures: list[Failure] = []
        self._trainer = trainer

    def holds(self, plugin: object) -> bool:
        """Whether ``plugin`` is left out."""
        return any(failure.plugin is plugin for failure in self.failures)

    def active(self, loggers: Sequence[Logger]) -> Iterator[Logger]:
        """Those that are not left out."""
        return (logger for logger in loggers if not self.holds(logger))

    def guard(self, logger: Logger, where: str) -> _Guard:
        """A ``with`` block for a call of a logger's method ``where``; it goes on without a logger that is left out for it."""
        return _Guard(self, logger, where)

    def wrap(self, participant: Participant, hook: str, function: Hook) -> Hook:
        """The function to call in place of a hook's implementation; ``function`` itself where errors are raised anyway."""
        plugin = participant.plugin
        kind = "logger" if isinstance(plugin, Logger) else participant.role
        if self.policy.get(kind, "raise") == "raise" or hook in _BEFORE_THE_FIRST_STEP:
            return function

        def guarded(*values: Any) -> Any:
            if self.failures and self.holds(plugin):
                return None
            try:
                return function(*values)
            except Exception as error:
                if not self.takes(plugin, kind, hook, error):
                    raise
                return None

        return guarded

    def takes(self, plugin: object, kind: str, where: str, error: Exception) -> bool:
        """Leaves ``plugin`` out from now on because of ``error``, if the policy is that, and says so; else returns False."""
        trainer = self._trainer
        if self.policy[kind] == "raise" or trainer.sanity_checking:
            return False
        if not self.holds(plugin):
            text = masked_text(f"{type(error).__name__}: {error}")
            failure = Failure(plugin, f"{kind} {_who(plugin)}", where, trainer.progress.global_step, text)
            self.failures.append(failure)
            notify("LY019", f"from now on the run goes on without {failure}; on_plugin_error={{{kind!r}: 'raise'}} ends it there")
        return True

    def report(self) -> None:
        """Says at the end of a run who was left out."""
        if self.failures:
            notify("LY020", "the run was without " + "; and without ".join(str(failure) for failure in self.failures))


class _Guard:
    def __init__(self, quarantine: Quarantine, logger: Logger, where: str) -> None:
        self._quarantine, self._logger, self._where = quarantine, logger, where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        return isinstance(error, Exception) and self._quarantine.takes(self._logger, "logger", self._where, error)


def explain_plugin(error: BaseException, trainer: Trainer) -> None:
    """Notes on ``error`` which installed plug-in it came from; nothing if that was the user's own code."""
    plugins = {id(participant.plugin): participant for participant in trainer.bus.participants}
    plugins.update((id(logger), Participant(logger, "", "component")) for logger in trainer.loggers)
    last: tuple[Participant, str] | None = None
    traceback = error.__traceback__
    while traceback is not None:
        found = plugins.get(_owner(traceback.tb_frame))
        if found is not None and (last is None or found is not last[0]):
            last = found, traceback.tb_frame.f_code.co_name
        traceback = traceback.tb_next
    if last is not None and last[0].role not in ("module", "datamodule") and brought_by(last[0].plugin) is not None:
        add_note(error, f"in plug-in {_who(last[0].plugin)}: {last[1]}")


def _owner(frame: FrameType) -> int:
    """The identity of what a frame's function belongs to: the object whose method it is, or its module."""
    return id(frame.f_locals["self"]) if "self" in frame.f_locals else id(inspect.getmodule(frame.f_code))


def _who(plugin: object) -> str:
    name = plugin.__name__ if inspect.ismodule(plugin) else type(plugin).__qualname__
    found = brought_by(plugin)
    return f"{name} ({found.distribution} {found.version})" if found else name
