"""Moves a batch of any nesting to a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def apply_to_tensors(data: Any, function: Callable[[Any], Any]) -> Any:
    """A copy of ``data`` with ``function`` applied to each tensor and each object that has a ``to`` method.

    Lists, tuples, named tuples, dicts and dataclasses are rebuilt; everything else is passed on as it is.
    """
    if isinstance(data, Tensor):
        return function(data)
    if isinstance(data, Mapping):
        items = {key: apply_to_tensors(value, function) for key, value in data.items()}
        return items if type(data) is dict else _rebuilt(data, items)
    if isinstance(data, tuple):
        values = [apply_to_tensors(value, function) for value in data]
        return type(data)(*values) if hasattr(data, "_fields") else type(data)(values)
    if isinstance(data, list):
        return [apply_to_tensors(value, function) for value in data]
    if callable(getattr(data, "to", None)) and not isinstance(data, type):
        return function(data)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        changes = {f.name: apply_to_tensors(getattr(data, f.name), function) for f in dataclasses.fields(data) if f.init}
        return dataclasses.replace(data, **changes)
    return data


def _rebuilt(data: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    try:
        return type(data)(items)  # type: ignore[call-arg]  # an OrderedDict, a BatchEncoding: most mappings take a dict
    except TypeError:
        return items


def move_to_device(batch: Any, device: torch.device) -> Any:
    """The batch on ``device``; a tensor from pinned memory is copied without waiting for it."""

    def move(data: Any) -> Any:
        if isinstance(data, Tensor):
            return data.to(device, non_blocking=data.device.type == "cpu" and device.type != "cpu" and data.is_pinned())
        return data.to(device)

    return apply_to_tensors(batch, move)
