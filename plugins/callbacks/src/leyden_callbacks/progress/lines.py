"""A bar for a file or a pipe: one plain line when a pass is complete."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any


class Bar:
    """Counts batches and prints one line at the end, none if it is nested; subclasses draw."""

    is_live = False
    """Whether :meth:`draw` shows anything."""

    def __init__(self, description: str, total: int | None, done: int, *, nested: bool) -> None:
        self.description = description
        self.total = total
        self.start = done
        self.nested = nested
        self.started = monotonic()

    def draw(self, done: int, text: str) -> None:
        """Shows that ``done`` batches are done, and ``text`` after them."""

    def finish(self, done: int, text: str, *, keep_open: bool) -> None:
        """Shows the end of the pass; with ``keep_open`` it stays until :meth:`abandon`."""
        if not self.nested:
            print(self.line(done, text), file=sys.stderr, flush=True)

    def abandon(self, *, erase: bool = False) -> None:
        """Lets go of the screen, whether or not the pass came to its end; with ``erase`` nothing stays on it."""

    def line(self, done: int, text: str) -> str:
        """Counts, time and rate as tqdm writes them, without the bar."""
        seconds = monotonic() - self.started
        count = f"{done}/{self.total}" if self.total is not None else f"{done}it"
        rate = f"{(done - self.start) / seconds:.2f}it/s" if seconds > 0 and done > self.start else "?it/s"
        return f"{self.description}: {count} [{clock(seconds)}, {rate}{', ' if text else ''}{text}]"


class OneLineBar(Bar):
    """Writes over its own line, where nothing but a carriage return moves the cursor: in the output of a notebook's cell."""

    is_live = True

    def __init__(self, description: str, total: int | None, done: int, *, leave: bool) -> None:
        super().__init__(description, total, done, nested=False)
        self._leave = leave
        self._width = 0
        self.draw(done, "")

    def draw(self, done: int, text: str) -> None:
        line = self.line(done, text)
        if self.total:
            share = min(done / self.total, 1.0)
            line = f"{line} {'#' * int(20 * share):<20} {share:4.0%}"
        print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(line)

    def finish(self, done: int, text: str, *, keep_open: bool) -> None:
        self.draw(done, text)
        if not keep_open:
            self.abandon()

    def abandon(self, *, erase: bool = False) -> None:
        if self._width:
            end = f"\r{'':<{self._width}}\r" if erase or not self._leave else "\n"
            print(end, end="", file=sys.stderr, flush=True)
            self._width = 0


def clock(seconds: float) -> str:
    """``mm:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def formatted(value: Any) -> str:
    """A number in few characters: ``4.501``, ``1.20e-05``, ``10``."""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3f}"
    return f"{value:.2e}"
