"""The progress bar of tqdm."""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from typing import Any

from leyden_callbacks.progress.base import ProgressBar
from leyden_callbacks.progress.lines import Bar


class TQDMProgressBar(ProgressBar):
    """``Epoch 1:   4%|▎         | 40/1095 [00:03<01:37, 10.84it/s, loss=4.501, v_num=10]``.

    On anything but a terminal it prints one plain line an epoch. Arguments are those of :class:`ProgressBar`.
    """

    def make_bar(self, description: str, total: int | None, done: int, *, nested: bool, leave: bool) -> Bar:
        """Returns a bar of tqdm."""
        return _TqdmBar(description, total, done, nested=nested, leave=leave)

    def print(self, *values: Any) -> None:
        """Prints a line on standard error above the bars."""
        _tqdm_class().write(" ".join(str(value) for value in values), file=sys.stderr)


class _TqdmBar(Bar):
    is_live = True

    def __init__(self, description: str, total: int | None, done: int, *, nested: bool, leave: bool) -> None:
        super().__init__(description, total, done, nested=nested)
        columns = _columns()
        self._bar = _tqdm_class()(
            desc=description,
            total=total,
            initial=done,
            leave=leave,
            file=sys.stderr,
            mininterval=0,  # this class is asked to draw only when it is time
            miniters=1,
            dynamic_ncols=bool(columns),
            ncols=None if columns else 80,
            nrows=None if columns else 24,
        )

    def draw(self, done: int, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def finish(self, done: int, text: str, *, keep_open: bool) -> None:
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.n = done
        self._bar.refresh()
        if not keep_open:
            self._bar.close()

    def abandon(self, *, erase: bool = False) -> None:
        if erase:
            self._bar.leave = False
        self._bar.close()


def _columns() -> int:
    """The width of the terminal; 0 where it does not say, as in many containers, where tqdm would draw nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0


@cache
def _tqdm_class() -> Any:
    from tqdm import tqdm

    class Quiet(tqdm):  # type: ignore[type-arg]  # a generic class in the stubs only
        monitor_interval = 0  # no thread: a bar that is not drawn for a while is no reason for one

    Quiet.set_lock(threading.RLock())  # tqdm's own is a semaphore between processes
    return Quiet
