"""Makes one output of a step of what it returned for each part of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from leyden.metrics.replicas import mean
from torch import Tensor

from leyden_strategies.splitting import like

_PLAIN = (bool, int, str, bytes, type(None))


def join(outputs: list[Any], weights: list[float], samples: list[int], where: str) -> Any:
    """The output for the whole batch, as far as it follows from those for its parts.

    Tensors and numpy arrays are concatenated in their first dimension; floating-point numbers, in tensors without dimensions too,
    give their weighted mean, other tensors without dimensions a vector. Mappings, tuples and dataclasses are joined item by item,
    and so are lists, except those with an item for each sample, which are concatenated. Of other values that are all equal there
    is one; else there is a list of them.

    Args:
        outputs: for each part, in order; tensors on one device.
        weights: what each counts for in a mean.
        samples: how many samples each part had.
        where: whose output it is, for messages.

    Raises:
        ValueError: the outputs differ in their keys, or their tensors do not fit together.
    """
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if all(isinstance(output, Tensor) for output in outputs):
        return _tensors(outputs, weights, where)
    if all(isinstance(output, float) for output in outputs):
        return mean(outputs, weights)
    if all(isinstance(output, np.ndarray) and output.ndim for output in outputs):
        return np.concatenate(outputs)
    if all(isinstance(output, Mapping) for output in outputs):
        for index, output in enumerate(outputs):
            if output.keys() != first.keys():
                raise ValueError(
                    f"{where} has the keys {sorted(map(str, first))} on replica 0 and {sorted(map(str, output))} on replica "
                    f"{index}; return the same ones for every part of a batch"
                )
        return like(first, {k: join([output[k] for output in outputs], weights, samples, f"{where}[{k!r}]") for k in first})
    if any(type(output) is not type(first) for output in outputs):
        return outputs
    if isinstance(first, list) and _by_sample(outputs, samples):
        return [item for output in outputs for item in output]
    if isinstance(first, list | tuple) and len({len(output) for output in outputs}) == 1:
        items = [join(list(o), weights, samples, f"{where}[{i}]") for i, o in enumerate(zip(*outputs, strict=True))]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in dataclasses.fields(first) if field.init]
        fields = {n: join([getattr(o, n) for o in outputs], weights, samples, f"{where}.{n}") for n in names}
        return dataclasses.replace(first, **fields)
    return first if isinstance(first, _PLAIN) and all(output == first for output in outputs) else outputs


def _tensors(tensors: list[Tensor], weights: list[float], where: str) -> Tensor:
    if all(not tensor.ndim for tensor in tensors):
        if all(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors):
            result: Tensor = mean(tensors, weights)
            return result
        return torch.stack(tensors)
    try:
        return torch.cat([tensor if tensor.ndim else tensor.unsqueeze(0) for tensor in tensors])
    except RuntimeError as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"{where} has the shapes {shapes} on the replicas, which torch.cat cannot join ({error})") from None


def _by_sample(outputs: list[Any], samples: list[int]) -> bool:
    if [len(output) for output in outputs] != samples:
        return False
    columns = all(
        isinstance(item, Tensor) and item.ndim and item.shape[0] == count
        for output, count in zip(outputs, samples, strict=True)
        for item in output
    )
    return not columns  # a list of as many tensors as there are samples, each of all samples, is joined item by item
