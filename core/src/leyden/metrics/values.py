"""Reads many values from their devices in one copy each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def to_floats(values: Sequence[Any]) -> list[float]:
    """The values as Python floats; tensors of one device and dtype are read by one copy."""
    result: list[Any] = list(values)
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for index, value in enumerate(values):
        if isinstance(value, Tensor):
            groups.setdefault((value.device, value.dtype), []).append(index)
    for indices in groups.values():
        read = torch.stack([values[index].detach() for index in indices]).tolist()
        for index, number in zip(indices, read, strict=True):
            result[index] = number
    return [float(value) for value in result]
