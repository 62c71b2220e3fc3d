"""Numbers of logged values: read from their devices in one copy each, and the smallest and largest of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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


def smallest(numbers: Iterable[float]) -> float:
    """The smallest number; nan where one of them is, as torch has it. Python's own ``min`` goes by which comes first."""
    found = list(numbers)
    return math.nan if any(map(math.isnan, found)) else min(found)


def largest(numbers: Iterable[float]) -> float:
    """Likewise the largest."""
    found = list(numbers)
    return math.nan if any(map(math.isnan, found)) else max(found)
