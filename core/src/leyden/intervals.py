"""Intervals with a unit, such as "500 steps", "2 epochs" or "30 min"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from leyden.messages import alternatives, listed, shown

_UNITS = {
    "step": ("step", 1), "steps": ("step", 1),
    "batch": ("batch", 1), "batches": ("batch", 1),
    "epoch": ("epoch", 1), "epochs": ("epoch", 1), "ep": ("epoch", 1),
    "sample": ("sample", 1), "samples": ("sample", 1),
    "duration": ("duration", 1), "dur": ("duration", 1),
    "s": ("second", 1), "sec": ("second", 1), "second": ("second", 1), "seconds": ("second", 1),
    "min": ("second", 60), "minute": ("second", 60), "minutes": ("second", 60),
    "h": ("second", 3600), "hour": ("second", 3600), "hours": ("second", 3600),
    "d": ("second", 86400), "day": ("second", 86400), "days": ("second", 86400),
}  # fmt: skip
_SHOWN = {"step": ("steps",), "batch": ("batches",), "epoch": ("epochs",), "sample": ("samples",),
          "second": ("s", "min", "h", "d"), "duration": ("duration",)}  # fmt: skip
_PARTS = (1, 60, 3600, 86400)
"""Seconds of the parts of ``DD:HH:MM:SS``, the last one first."""

_SHAPE = re.compile(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Interval:
    """How many of a unit."""

    count: float
    unit: str
    """``"step"`` (optimizer steps), ``"batch"``, ``"epoch"``, ``"second"``, ``"sample"`` or ``"duration"`` (the whole run)."""


def parse_interval(
    text: str, name: str, units: tuple[str, ...] = ("step", "batch", "epoch", "sample", "second"), *, label: str | None = None
) -> Interval:
    """Reads an interval with its unit.

    Args:
        text: a number and a unit.
        name: the Trainer's argument, for messages.
        units: the units that make sense there.
        label: how messages call it, where it is no argument of the Trainer.

    Raises:
        ValueError: it is not such a text, or the unit makes no sense there.
    """
    label = label or f"Trainer({name}={text!r})"
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError(f"{label}: expected a number and a unit, such as {_example(units)!r}")
    number, word = float(match[1]), match[2].lower()
    if word not in _UNITS:
        raise ValueError(f"{label}: there is no unit {word!r}{alternatives(word, _shown(units), 'units')}")
    unit, factor = _UNITS[word]
    if unit not in units:
        raise ValueError(f"{label}: it cannot be given in {unit}s, only in {listed(units)}")
    if number * factor <= 0 or (unit not in ("second", "duration") and number != int(number)):
        raise ValueError(f"{label}: expected a number above 0, whole but for times")
    return Interval(number * factor, unit)


def seconds(duration: Any, label: str) -> float:
    """Reads a duration.

    Args:
        duration: ``"12 h"``, ``"DD:HH:MM:SS"``, a timedelta, or its arguments as a dict.
        label: how messages call it.

    Raises:
        TypeError: it is none of these.
        ValueError: it cannot be read, or is no time above 0.
    """
    if isinstance(duration, str) and ":" not in duration:
        return parse_interval(duration, "duration", ("second",), label=label).count
    time = as_timedelta(duration, label)
    if time <= timedelta():
        raise ValueError(f"{label}: expected a time above 0")
    return time.total_seconds()


def as_timedelta(duration: Any, label: str) -> timedelta:
    """Reads a duration without a unit.

    Args:
        duration: ``"DD:HH:MM:SS"``, whose first parts may be left out, a timedelta, or its arguments as a dict.
        label: how messages call it.

    Raises:
        TypeError: it is none of these, or the dict has what timedelta does not take.
        ValueError: the text is not of this form.
    """
    if isinstance(duration, Mapping):
        try:
            return timedelta(**duration)
        except (TypeError, OverflowError) as error:
            raise TypeError(f"{label}: expected the arguments of timedelta, such as {{'hours': 12}}: {error}") from None
    if isinstance(duration, str):
        parts = duration.split(":")
        if len(parts) > len(_PARTS) or not all(part.isdecimal() for part in parts):
            raise ValueError(f"{label}: expected DD:HH:MM:SS in numbers, or a number and a unit, such as '12 h'")
        return timedelta(seconds=sum(int(part) * unit for part, unit in zip(reversed(parts), _PARTS, strict=False)))
    if not isinstance(duration, timedelta):
        raise TypeError(
            f"{label}: expected a text such as '30 min' or 'DD:HH:MM:SS', a timedelta or a dict, got {shown(duration)}"
        )
    return duration


def _example(units: tuple[str, ...]) -> str:
    shown = {"step": "500 steps", "batch": "500 batches", "epoch": "2 epochs", "sample": "1e6 samples", "second": "30 min"}
    return shown[units[0]]


def _shown(units: tuple[str, ...]) -> list[str]:
    return [word for unit, words in _SHOWN.items() if unit in units for word in words]
