"""Intervals with a unit, such as "500 steps", "2 epochs" or "30 min"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from leyden.messages import alternatives, listed

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


def _example(units: tuple[str, ...]) -> str:
    shown = {"step": "500 steps", "batch": "500 batches", "epoch": "2 epochs", "sample": "1e6 samples", "second": "30 min"}
    return shown[units[0]]


def _shown(units: tuple[str, ...]) -> list[str]:
    return [word for unit, words in _SHOWN.items() if unit in units for word in words]
