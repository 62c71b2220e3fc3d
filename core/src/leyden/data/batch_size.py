"""How many samples a batch has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


class UnknownBatchSize(ValueError):
    """The tensors of a batch do not agree on how many samples it has."""


def batch_size_of(batch: Any) -> int:
    """The number of samples of a batch, without reading a device.

    In this order: the batch's own word (``__batch_size__``, or ``num_graphs`` as graph libraries have it), else the first
    dimension of its tensors if they all agree.

    Raises:
        UnknownBatchSize: they do not agree, or there is no tensor.
    """
    kind = batch.__class__
    if kind is tuple or kind is list:  # the usual batch, without the walk below: this runs once a batch
        size = None
        for item in batch:
            shape = item.shape if item.__class__ is Tensor else ()
            if not shape or (size is not None and shape[0] != size):
                break
            size = shape[0]
        else:
            if size is not None:
                return int(size)
    elif kind is Tensor:
        return int(batch.shape[0]) if batch.ndim else 1
    else:
        for attribute in ("__batch_size__", "num_graphs"):
            size = getattr(batch, attribute, None)
            if isinstance(size, int):
                return size
    sizes = {tensor.shape[0] for tensor in _tensors(batch) if tensor.ndim}
    if len(sizes) == 1:
        return int(sizes.pop())
    if not sizes:
        raise UnknownBatchSize(f"a batch of type {type(batch).__name__} holds no tensor that shows its size")
    raise UnknownBatchSize(f"the tensors of the batch have different first dimensions: {', '.join(map(str, sorted(sizes)))}")


def samples_of(batch: Any) -> int:
    """As :func:`batch_size_of`; a batch that does not show its size counts as one sample."""
    try:
        return batch_size_of(batch)
    except UnknownBatchSize:
        return 1


def _tensors(data: Any) -> Iterator[Tensor]:
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _tensors(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _tensors(value)
    elif hasattr(data, "__dict__") and not isinstance(data, type):
        for value in vars(data).values():
            if isinstance(value, Tensor):
                yield value
