"""The few batches that ``overfit_batches`` trains and validates on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from leyden.data.streams import IndexStream, Stream
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

    A DataLoader of indexed samples is asked for its first indices once, shuffled or not, and keeps those.
    """
    number = int(count)
    if not isinstance(stream, IndexStream) or stream.streams or not stream.batched:
        return FirstBatches(given, number)
    with isolated_random_state():
        indices = [list(batch) for batch in islice(stream.plain_indices(), number)]
    return DataLoader(
        given.dataset,
        batch_sampler=indices,
        num_workers=given.num_workers,
        collate_fn=given.collate_fn,
        pin_memory=given.pin_memory,
        timeout=given.timeout,
        worker_init_fn=given.worker_init_fn,
    )
