"""Turns values into plain data: tensors, numbers, strings, lists and dicts."""

from __future__ import annotations

import enum
from argparse import Namespace
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

PLAIN = (str, int, float, bool, complex, bytes, type(None), torch.dtype, torch.device, torch.Size)


class NotPlain(TypeError):
    """``value`` is not plain data; ``where`` says at which keys it is."""

    def __init__(self, where: str, value: object) -> None:
        super().__init__(f"{where} is a {type(value).__module__}.{type(value).__qualname__}")
        self.where = where
        self.value = value


def plain(value: Any, where: str = "") -> Any:
    """A copy of ``value`` as plain data, tensors as they are.

    Paths become strings, named values of an Enum their value, a Namespace a dict, numpy numbers and arrays Python numbers
    and tensors, sets and deques lists.

    Raises:
        NotPlain: something in it cannot be turned.
    """
    kind = type(value)
    if kind in PLAIN or isinstance(value, Tensor):
        return value.detach() if isinstance(value, Tensor) and value.requires_grad else value
    if isinstance(value, Mapping):
        return {plain(key, where): plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, enum.Enum):
        return plain(value.value, where)
    if isinstance(value, bool | int | float | str):  # a subclass, such as a numpy float
        return next(base(value) for base in (bool, int, float, str) if isinstance(value, base))
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(value.copy())
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    if isinstance(value, list | tuple | set | frozenset) or kind.__name__ == "deque":
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Namespace):
        return plain(vars(value), where)
    raise NotPlain(where, value)


def plain_entries(value: Mapping[Any, Any], where: str, left_out: dict[str, NotPlain]) -> dict[Any, Any]:
    """As :func:`plain`, without the entries that cannot be turned, at any depth, which are noted in ``left_out`` by place."""
    kept: dict[Any, Any] = {}
    for key, item in value.items():
        place = f"{where}[{key!r}]" if where else str(key)
        try:
            kept[plain(key, place)] = plain(item, place)
        except NotPlain as error:
            if isinstance(item, Mapping):
                kept[key] = plain_entries(item, place, left_out)
            else:
                left_out[place] = error
    return kept
