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
    for attribute in ("__batch_size__", "num_graphs"):
        size = getattr(batch, attribute, None)
        if isinstance(size, int):
            return size
    if batch.__class__ is Tensor:
        return int(batch.shape[0]) if batch.ndim else 1
    if isinstance(batch, list | tuple) and batch and all(map(_is_batched, batch)):
        size = int(batch[0].shape[0])  # the usual batch, without the walk below: this runs once a batch
        if all(item.shape[0] == size for item in batch):
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


def _is_batched(value: Any) -> bool:
    return value.__class__ is Tensor and value.ndim > 0


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
