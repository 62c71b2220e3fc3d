"""Deals out the indices of a loader among processes, like cards: all see one and the same sequence, each takes its part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler


@dataclass(frozen=True)
class Deal:
    """Which part of a sequence this process takes: of each round of ``world_size`` items the one of its rank.

    Training deals out samples, so that a step of all processes together takes the next samples of the sequence, and all take
    equally many. Evaluation deals out whole batches, so that each is what it would be in one process, and each sample is seen
    once: some processes may have one batch less.
    """

    rank: int
    world_size: int
    training: bool
    remainder: str = "wrap"
    """What becomes of a last round that is not full, in training: ``"wrap"`` fills it from the beginning of the sequence,
    ``"stop"`` leaves it out."""

    def share(self, count: int) -> int:
        """How many of ``count`` items this process takes."""
        if not self.training:
            return len(range(self.rank, count, self.world_size))
        return -(-count // self.world_size) if self.remainder == "wrap" else count // self.world_size

    def out(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items of this process. Each round is drawn at once, so that whatever draws them does the same everywhere."""
        iterator = iter(items)
        first: list[Any] = []
        while True:
            round_ = list(islice(iterator, self.world_size))
            if self.training and self.remainder == "wrap" and len(first) < self.world_size:
                first += round_
            if len(round_) < self.world_size:
                if not round_ or (self.training and self.remainder == "stop"):
                    return
                if self.training:
                    while len(round_) < self.world_size:  # there may be fewer items than processes
                        round_ += first[: self.world_size - len(round_)]
            if self.rank < len(round_):
                yield round_[self.rank]


class Dealt:
    """A sampler of which each process draws its part."""

    def __init__(self, sampler: Iterable[Any], deal: Deal) -> None:
        self.sampler = sampler
        self.deal = deal

    def __iter__(self) -> Iterator[Any]:
        return self.deal.out(self.sampler)


def can_be_dealt(loader: Any) -> bool:
    """Whether the loader draws indices, the same on every process: not where it streams, or deals them out itself."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    samplers = (loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
    return not any(isinstance(sampler, DistributedSampler) for sampler in samplers)


def by_sample(loader: DataLoader[Any], deal: Deal) -> bool:
    """Whether samples are dealt out rather than batches."""
    return deal.training and (type(loader.batch_sampler) is BatchSampler or loader.batch_sampler is None)


def dealt_lengths(loader: DataLoader[Any], deal: Deal) -> tuple[int, int | None]:
    """How many batches this process takes of a loader, and how many samples, None if that is not known.

    Raises:
        TypeError: the sampler does not know its length.
    """
    batches = loader.batch_sampler
    if batches is None:
        share = deal.share(len(loader.sampler))  # type: ignore[arg-type]  # a sampler without length raises
        return share, share
    if type(batches) is not BatchSampler:
        return deal.share(len(batches)), None  # type: ignore[arg-type]  # likewise
    samples, size = len(batches.sampler), batches.batch_size  # type: ignore[arg-type]  # likewise
    if by_sample(loader, deal):
        share = deal.share(samples)
        return (share // size if batches.drop_last else -(-share // size)), share
    number = len(batches)
    share = deal.share(number)
    has_last = share and (number - 1) % deal.world_size == deal.rank and not batches.drop_last
    return share, share * size - (number * size - samples if has_last else 0)
