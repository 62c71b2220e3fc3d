"""Precisions that Lightning builds from a word."""

from __future__ import annotations

from typing import Any

import leyden
from leyden.plugins import resolve


def MixedPrecision(precision: Any, device: str = "cpu", scaler: Any = None) -> leyden.Precision:  # a class in Lightning
    """The mixed precision of that name, for ``plugins=[...]``.

    Args:
        precision: ``"16-mixed"`` or ``"bf16-mixed"``; 16 and ``"bf16"`` mean the same.
        device: accepted; the run's device counts.
        scaler: a GradScaler of one's own.
    """
    name = {"16": "16-mixed", "bf16": "bf16-mixed"}.get(str(precision), str(precision))
    return resolve(leyden.Precision, {name: {"scaler": scaler}} if scaler is not None else name)


def HalfPrecision(precision: str = "16-true") -> leyden.Precision:  # a class in Lightning
    """The half precision of that name, for ``plugins=[...]``."""
    return resolve(leyden.Precision, precision)
