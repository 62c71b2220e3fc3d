"""What steps of 0.9 returned: ``{"loss": ..., "log": {...}, "progress_bar": {...}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import leyden
from torch import Tensor

_KEPT = ("loss", "log", "progress_bar", "hiddens", "loss_weight")


def log_returned(module: leyden.Module, returned: Any, *, skip_loss: bool) -> None:
    """Logs what a returned dict holds: ``log`` for loggers, ``progress_bar`` for the bar, every other number for callbacks.

    Args:
        module: whose method returned it.
        returned: anything; what is no mapping holds nothing.
        skip_loss: whether ``"loss"`` is the loss of a step rather than a value.
    """
    if not isinstance(returned, Mapping):
        return
    loggers, bar = returned.get("log") or {}, returned.get("progress_bar") or {}
    others = {key: value for key, value in returned.items() if key not in _KEPT or (key == "loss" and not skip_loss)}
    for name, value in {**others, **bar, **loggers}.items():
        if isinstance(name, str) and _is_number(value):
            module.log(name, value, prog_bar=name in bar, logger=name in loggers)


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or (isinstance(value, Tensor) and value.numel() == 1)
