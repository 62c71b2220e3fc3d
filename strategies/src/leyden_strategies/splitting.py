"""Splits a batch into parts of consecutive samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leyden.data.batch_size import UnknownBatchSize, batch_size_of
from torch import Tensor

_ADVICE = "pass strategy={'dp': {'split': function}} with a function of (batch, parts) that returns a list of batches"


class Splitter:
    """Splits batches as ``torch.chunk`` does tensors: into parts of equal size, the last one smaller, or fewer of them.

    Tensors are split in their first dimension, which must be the number of samples; those without dimensions go to every part.
    Tuples, lists, mappings, named tuples and dataclasses are split item by item. A list or tuple with an item for each sample
    (texts, images of different sizes, dicts of boxes) is cut like a tensor. Anything else goes to every part.
    """

    def __init__(self) -> None:
        self._cut: dict[str, bool] = {}
        """Whether the list at a place is cut, where an earlier batch showed it."""

    def split(self, batch: Any, known: int | None, parts: int) -> list[tuple[Any, int]]:
        """The parts of a batch, each with its number of samples.

        Args:
            batch: of any nesting.
            known: how many samples the loader put into it, if it says so.
            parts: how many to make at most.

        Raises:
            ValueError: it does not show how many samples it has, or a tensor has another number.
        """
        if known is not None:
            try:
                return self._parts(batch, known, parts)
            except ValueError:
                # What came after the loader may have made more of each sample.
                samples = _samples(batch, known)
                if samples == known:
                    raise
                return self._parts(batch, samples, parts)
        return self._parts(batch, _samples(batch, None), parts)

    def _parts(self, batch: Any, samples: int, parts: int) -> list[tuple[Any, int]]:
        if parts == 1 or samples < 2:
            return [(batch, samples)]
        size = -(-samples // parts)
        cuts = [slice(start, min(start + size, samples)) for start in range(0, samples, size)]
        pieces = self._split(batch, samples, cuts, "batch")
        return [(piece, cut.stop - cut.start) for piece, cut in zip(pieces, cuts, strict=True)]

    def _split(self, data: Any, samples: int, cuts: list[slice], where: str) -> list[Any]:
        if isinstance(data, Tensor):
            if not data.ndim:
                return [data] * len(cuts)
            if data.shape[0] != samples:
                raise ValueError(
                    f"strategy='dp' cannot split the batch: {where} has shape {tuple(data.shape)}, and the batch has {samples} "
                    f"samples; {_ADVICE}"
                )
            return [data[cut] for cut in cuts]
        if isinstance(data, Mapping):
            items = {key: self._split(value, samples, cuts, f"{where}[{key!r}]") for key, value in data.items()}
            return [like(data, {key: pieces[index] for key, pieces in items.items()}) for index in range(len(cuts))]
        if isinstance(data, list | tuple):
            named = hasattr(data, "_fields")
            if not named and self._is_cut(data, samples, where):
                return [data[cut] for cut in cuts]
            columns = [self._split(value, samples, cuts, f"{where}[{index}]") for index, value in enumerate(data)]
            rows = [[column[index] for column in columns] for index in range(len(cuts))]
            return [type(data)(*row) if named else type(data)(row) for row in rows]
        if dataclasses.is_dataclass(data) and not isinstance(data, type):
            names = [field.name for field in dataclasses.fields(data) if field.init]
            fields = {name: self._split(getattr(data, name), samples, cuts, f"{where}.{name}") for name in names}
            return [dataclasses.replace(data, **{n: pieces[i] for n, pieces in fields.items()}) for i in range(len(cuts))]
        if callable(getattr(data, "to", None)):
            raise ValueError(
                f"strategy='dp' cannot split the batch: {where} is a {type(data).__name__}, which holds tensors in a way of its "
                f"own; {_ADVICE}"
            )
        return [data] * len(cuts)

    def _is_cut(self, data: Sequence[Any], samples: int, where: str) -> bool:
        """Whether a list has an item for each sample, and not tensors of all samples in each item.

        Raises:
            ValueError: it could be either, and no batch before this one showed which.
        """
        if len(data) != samples:
            self._cut[where] = False
        elif not all(_is_column(value, samples) for value in data) or not any(True for _ in _tensors(data)):
            self._cut[where] = True
        elif where not in self._cut:
            if where == "batch":
                return False  # as two samples of the usual pairs
            raise ValueError(
                f"strategy='dp' cannot split the batch: {where} has {samples} items with a first dimension of {samples} for "
                f"{samples} samples, so each item could be of one sample or of all; {_ADVICE}"
            )
        return self._cut[where]


def like(data: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    """A mapping of the type of ``data`` with other items; a dict where that type is not made of one."""
    if type(data) is dict:
        return items
    try:
        return type(data)(items)  # type: ignore[call-arg]  # an OrderedDict, a BatchEncoding: most mappings take a dict
    except TypeError:
        return items


def _is_column(value: Any, samples: int) -> bool:
    return all(not tensor.ndim or tensor.shape[0] == samples for tensor in _tensors(value))


def _tensors(data: Any) -> Iterator[Tensor]:
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _tensors(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _tensors(value)


def _samples(batch: Any, default: int | None) -> int:
    try:
        return batch_size_of(batch)
    except UnknownBatchSize as error:
        lengths = {_length(item) for item in batch} if isinstance(batch, list | tuple) else set()
        found = lengths.pop() if len(lengths) == 1 else default
        if found is None:
            raise ValueError(f"strategy='dp' cannot split the batch: {error}; {_ADVICE}") from None
        return found


def _length(item: Any) -> int | None:
    if isinstance(item, Tensor):
        return int(item.shape[0]) if item.ndim else None
    return len(item) if isinstance(item, list | tuple) else None
