"""The few batches that ``overfit_batches`` trains and validates on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from leyden.data.loaders import length_of
from leyden.data.streams import CombinedStream, IndexStream, Stream
from leyden.seeding import isolated_random_state


class FirstBatches:
    """The first batches of an iterable that is not a DataLoader of indexed samples, read anew each epoch."""

    def __init__(self, iterable: Any, count: int) -> None:
        self.iterable = iterable
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.iterable), self.count)


def first_batches(given: Any, count: int | float, stream: Stream) -> Any:
    """The first ``count`` batches of ``given``, which ``stream`` reads, the same samples in the same order each epoch.

    A DataLoader of indexed samples is asked for its first indices once, shuffled or not, and keeps those; so is each of several.
    """
    number = int(count)
    if isinstance(stream, CombinedStream):
        return _first_of_each(stream, number)
    if not isinstance(stream, IndexStream) or stream.streams:
        return FirstBatches(given, number)
    with isolated_random_state():
        indices = [list(item) if stream.batched else item for item in islice(stream.plain_indices(), number)]
    order: dict[str, Any] = {"batch_sampler": indices} if stream.batched else {"sampler": indices, "batch_size": None}
    return DataLoader(
        given.dataset,
        **order,
        num_workers=given.num_workers,
        collate_fn=given.collate_fn,
        pin_memory=given.pin_memory,
        timeout=given.timeout,
        worker_init_fn=given.worker_init_fn,
    )


def _first_of_each(stream: CombinedStream, count: int) -> Any:
    """Several loaders with so many batches of each, of those that are read one after the other with so many in all."""
    loaders, left = [], count
    for part in stream.parts:
        number = int(min(left, length_of(part.iterable)))
        loaders.append(first_batches(part.iterable, number, part))
        left -= number if stream.iterable.mode == "sequential" else 0
    return stream.iterable.with_loaders(loaders)
