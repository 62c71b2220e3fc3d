"""How leyden speaks to its user."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence


class LeydenWarning(UserWarning):
    """Something a user should know that stops nothing."""


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice most like ``name``, or None if none is alike."""
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"``, or nothing if no choice is alike."""
    match = nearest(name, choices)
    return f"; did you mean {match!r}?" if match else ""


def alternatives(name: str, choices: Iterable[str], what: str) -> str:
    """What could have been meant: ``"; did you mean 'x'? Its keys: 'x', 'y'"``, or without the question if none is alike."""
    choices = list(choices)
    question = did_you_mean(name, choices)
    return f"{question} {what.capitalize()}: {listed(choices)}" if question else f"; {what}: {listed(choices)}"


def listed(names: Iterable[str]) -> str:
    """Names for a message: ``'a', 'b', 'c'``, or ``none``."""
    return ", ".join(repr(name) for name in names) or "none"


def shown(value: object) -> str:
    """A value for a message, with its type: ``str 'ten'``."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


def add_note(exception: BaseException, note: str) -> None:
    """Attaches ``note`` to ``exception``; Python 3.11 and newer print it below the traceback."""
    if hasattr(exception, "add_note"):
        exception.add_note(note)
    else:
        exception.__notes__ = [*getattr(exception, "__notes__", []), note]  # as 3.11 does


def announce(text: str) -> None:
    """Says ``text`` on standard error, where progress goes; never where a program's output is read."""
    print(f"leyden: {text}", file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Plain text in columns, the first left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *(line(row) for row in rows)])
