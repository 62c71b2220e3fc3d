"""Moves a batch of any nesting to a device."""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def apply_to_tensors(data: Any, function: Callable[[Any], Any], *, whole: bool = False) -> Any:
    """A copy of ``data`` with ``function`` applied to each tensor and each object that has a ``to`` method.

    Lists, tuples, named tuples, dicts and dataclasses are rebuilt; everything else is passed on as it is.

    Args:
        data: any nesting.
        function: is given a tensor, or an object with ``to``.
        whole: whether it is given dicts and tuples that have a ``to`` too (``PackedSequence``, ``BatchEncoding``), which know
            more than what they hold.
    """
    if isinstance(data, Tensor):
        return function(data)
    kind = type(data)
    moves = kind not in (dict, list, tuple) and callable(getattr(data, "to", None)) and not isinstance(data, type)
    if moves and (whole or not isinstance(data, Mapping | list | tuple)):
        return function(data)
    if isinstance(data, Mapping):
        items = {key: apply_to_tensors(value, function, whole=whole) for key, value in data.items()}
        return items if kind is dict else _rebuilt(data, items)
    if isinstance(data, list | tuple):
        values = [apply_to_tensors(value, function, whole=whole) for value in data]
        if kind is list:
            return values
        return kind(*values) if hasattr(data, "_fields") else _rebuilt(data, values)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        copied = copy.copy(data)
        for name in dict.fromkeys([*(field.name for field in dataclasses.fields(data)), *getattr(data, "__dict__", ())]):
            if hasattr(data, name):
                # Past a frozen class, and without __init__, which need not take what there is now.
                object.__setattr__(copied, name, apply_to_tensors(getattr(data, name), function, whole=whole))
        return copied
    return data


def _rebuilt(data: Any, items: Any) -> Any:
    if isinstance(data, defaultdict):
        return type(data)(data.default_factory, items)
    try:
        return type(data)(items)  # an OrderedDict, a ModelOutput, a list of the user's: most take one thing
    except TypeError:
        return tuple(items) if isinstance(data, tuple) else items


def move_to_device(batch: Any, device: torch.device) -> Any:
    """The batch on ``device``; a tensor from pinned memory is copied without waiting for it."""

    def move(data: Any) -> Any:
        if isinstance(data, Tensor):
            return data.to(device, non_blocking=data.device.type == "cpu" and device.type != "cpu" and data.is_pinned())
        return data.to(device)

    return apply_to_tensors(batch, move, whole=True)
