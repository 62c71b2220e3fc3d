"""How leyden speaks to its user."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from numbers import Number
from typing import Any

from leyden.masking import MASK, is_secret, masked, masked_text
from leyden.message_ids import IDS

SILENCE_VARIABLE = "LEYDEN_SILENCE"


class LeydenWarning(UserWarning):
    """Something a user should know that stops nothing; each message's own subclass is named by its id."""


class _Voice:
    """What of leyden's messages this process says."""

    def __init__(self) -> None:
        self.rank = 0
        self.silenced: set[str] = set()
        self.said: set[tuple[str, str]] = set()
        """The notices of the running run."""
        self.categories: dict[tuple[str, type[LeydenWarning]], type[LeydenWarning]] = {}

    def says(self, message_id: str, every_rank: bool) -> bool:
        from_environment = os.environ.get(SILENCE_VARIABLE, "").replace(" ", "").split(",")
        return (every_rank or self.rank == 0) and message_id not in self.silenced and message_id not in from_environment


_voice = _Voice()


def silence(*message_ids: str) -> None:
    """Has messages with these ids no longer said in this process, as ``LEYDEN_SILENCE=LY003,LY006`` does from outside.

    Ids are in brackets behind what is said, and the names of warnings' categories; ``docs/messages.md`` lists them.

    Raises:
        ValueError: core has no message of such an id.
    """
    for message_id in message_ids:
        if message_id not in IDS and (message_id.startswith("LY0") or not message_id[-1:].isdigit()):
            raise ValueError(f"silence({message_id!r}): there is no such message{alternatives(message_id, IDS, 'ids')}")
    _voice.silenced.update(message_ids)


def new_run(rank: int) -> None:
    """A run begins in this process: notices are said again, and on rank 0 only."""
    _voice.rank = rank
    _voice.said.clear()


def warn(message_id: str, text: str, kind: type[LeydenWarning] = LeydenWarning) -> None:
    """Warns of something on rank 0, at the line of the user that led to it, unless its id is silenced.

    Args:
        message_id: from the table of ids of the package that warns.
        text: what to say.
        kind: the category, of which a subclass named by the id is used.
    """
    if not _voice.says(message_id, every_rank=False):
        return
    key = message_id, kind
    if key not in _voice.categories:
        _voice.categories[key] = type(message_id, (kind,), {"__doc__": IDS.get(message_id), "__module__": kind.__module__})
    warnings.warn(masked_text(text), _voice.categories[key], stacklevel=_users_level())


def _users_level() -> int:
    """How far up the nearest line is that is neither leyden's nor of what leyden calls it through, for a caller's caller."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None and _ours(str(frame.f_globals.get("__name__", ""))):
        level, frame = level + 1, frame.f_back
    return level


def _ours(module: str) -> bool:
    package = module.partition(".")[0]
    return package == "leyden" or package.startswith("leyden_") or package in ("contextlib", "pluggy")


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
    """A value for a message with its type: ``str 'ten'``, ``Tensor of shape (2, 3) and float32``; see :func:`quoted`."""
    text = quoted(value, room=80)
    return text if text.startswith(f"{type(value).__name__} of shape") else f"{type(value).__name__} {text}"


def quoted(value: object, name: object = "", *, room: int = 1000) -> str:
    """A value for a message as its ``repr``, on one line, without secrets; tensors and arrays by shape and dtype.

    Args:
        value: what to show.
        name: what the user calls it; of an ``api_key`` nothing is shown (see :func:`leyden.masking.is_secret`).
        room: how many characters there is room for; what is longer is cut.
    """
    text = repr(_briefly(value, name, 5))
    return text if len(text) <= room else text[: room - 3] + "..."


class _Words(str):
    """What stands for a value; its ``repr`` has no quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _briefly(value: Any, name: object, depth: int) -> Any:
    """What to take the ``repr`` of in place of ``value``."""
    kind: Any = type(value)
    if is_secret(name, value):
        return MASK
    if kind is str:
        return masked(value[:10_000], name)
    try:
        shape = getattr(value, "shape", None)
        # numpy's numbers and data types have shapes too
        if isinstance(shape, tuple) and (shape or hasattr(value, "dtype")) and not isinstance(value, Number | type):
            dtype, device = getattr(value, "dtype", ""), str(getattr(value, "device", "cpu"))
            what = f" and {dtype}".replace("torch.", "") if dtype else ""
            return _Words(f"{kind.__name__} of shape {tuple(shape)}{what}{'' if device == 'cpu' else f' on {device}'}")
        if isinstance(value, Mapping) and depth:
            few: Any = {_briefly(key, "", 1): _briefly(value[key], key, depth - 1) for key in islice(value, 20)}
            return few if len(value) <= 20 else {**few, _Words("..."): _Words(f"{len(value)} in all")}
        if kind in (list, tuple, set, frozenset) and depth:
            items: Any = value
            few = [_briefly(item, name, depth - 1) for item in islice(items, 8)]
            if len(items) <= 8:
                return kind(few)
            few.append(_Words(f"... ({len(items)} in all)"))
            return kind(few) if kind in (list, tuple) else _Words(f"{{{repr(few)[1:-1]}}}")  # a set keeps no order
        if isinstance(value, Collection) and not isinstance(value, str | bytes) and not depth:
            return _Words("...")
        text = repr(value)
    except Exception as error:  # of whatever the user has passed
        text = f"<{kind.__name__} whose repr raises {type(error).__name__}>"
    return _Words(masked_text(" ".join(text.split())))


def add_note(exception: BaseException, note: str) -> None:
    """Attaches ``note`` to ``exception``, without secrets; Python 3.11 and newer print it below the traceback."""
    note = masked_text(note)
    if hasattr(exception, "add_note"):
        exception.add_note(note)
    else:
        exception.__notes__ = [*getattr(exception, "__notes__", []), note]  # as 3.11 does


def announce(text: str) -> None:
    """Says what somebody asked for on standard error, where progress goes; never where a program's output is read."""
    print(f"leyden: {masked_text(text)}", file=sys.stderr, flush=True)


def notify(message_id: str, text: str, *, every_rank: bool = False) -> None:
    """Says something unasked on standard error, once a run, on rank 0, unless its id is silenced.

    Args:
        message_id: from the table of ids of the package that says it.
        text: what to say.
        every_rank: whether each rank says it for itself.
    """
    if (message_id, text) in _voice.said or not _voice.says(message_id, every_rank):
        return
    _voice.said.add((message_id, text))
    announce(f"{text} [{message_id}]" if not _voice.rank else f"rank {_voice.rank}: {text} [{message_id}]")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Plain text in columns, the first left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *(line(row) for row in rows)])
