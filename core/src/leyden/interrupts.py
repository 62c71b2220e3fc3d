"""Ctrl-C: the first one stops at the next batch, the second one at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from leyden.messages import notify

if TYPE_CHECKING:
    from leyden.trainer import Trainer


@contextmanager
def deferred_interrupt(trainer: Trainer) -> Iterator[None]:
    """Inside, the first Ctrl-C sets ``trainer.interrupt_requested``, which the loops heed after each batch.

    A handler that is not Python's own is left alone, and so is a thread that is not the main one, for Python runs handlers
    there only.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return

    def handler(number: int, frame: Any) -> None:
        if trainer.interrupt_requested:
            raise KeyboardInterrupt
        trainer.interrupt_requested = True
        notify("LY008", "interrupted: the run stops after this batch; interrupt once more to stop at once")

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def in_notebook() -> bool:
    """Whether the code runs in a cell of a notebook."""
    return "ipykernel" in sys.modules
