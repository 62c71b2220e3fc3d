"""Reads a loader from any position: the order of its samples is a function of seed, epoch and position."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
)
from torch.utils.data.distributed import DistributedSampler

from leyden.data.combined import CombinedLoader
from leyden.data.dealing import Deal, Dealt, by_sample, can_be_dealt, dealt_lengths
from leyden.data.loaders import length_of
from leyden.data.sampler_state import SamplerState
from leyden.data.worker_signals import iterate
from leyden.seeding import SeededIndex, derived_seed, seed_generators

_SEEDABLE = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_QUIET_SAMPLERS = (*_SEEDABLE, SequentialSampler, DistributedSampler, list, tuple, range)
"""Samplers that draw from no generator but their own."""


@dataclass(frozen=True)
class Seeds:
    """The seeds of one process of a run: each a function of the run's seed and of what it is for."""

    seed: int
    rank: int = 0
    everywhere: bool = False
    """Whether what the training process itself draws while it reads a batch is seeded for each batch, as workers are."""

    def shared(self, *parts: object) -> int:
        """A seed that every process has."""
        return derived_seed(self.seed, *parts)

    def own(self, *parts: object) -> int:
        """A seed of this process alone."""
        return derived_seed(self.seed, self.rank, *parts)


@dataclass
class Opened:
    """A loader that is being read."""

    iterator: Iterator[Any]
    workers: Any
    """What has the worker processes, if there are any."""
    passed: int
    """Batches that need not be read because the iterator starts after them."""


class Stream:
    """Any iterable of batches. What it draws is seeded for each batch; batches that were done are read and passed over."""

    draws = True
    """Whether reading may run code of the user, and so draw random numbers in this process."""

    reads_ahead = False
    """Whether a batch is read before the step of the one before it."""

    deal: Deal | None = None
    """Which part of the samples is this process's; None where it reads all of them."""

    def __init__(self, iterable: Any, purpose: str, seeds: Seeds) -> None:
        """Takes what to read.

        Args:
            iterable: the batches.
            purpose: what they are for, such as ``"train"``; two streams of one run differ by it.
            seeds: of this process.
        """
        self.iterable = iterable
        self.purpose = purpose
        self.seeds = seeds
        self.opened = False
        """Whether it is being read."""

    def open(self, epoch: object, done: int) -> Opened:
        """Starts an epoch.

        Args:
            epoch: which one.
            done: batches of it that were done, to be passed over.
        """
        self.opened = True
        seed_generators(self.seeds.own("order", self.purpose, epoch))
        iterator = iterate(self.iterable)
        return Opened(_Seeded(iterator, self.data_seed(epoch), 0), iterator, 0)

    @property
    def seeds_batches(self) -> bool:
        """Whether ``random``, numpy and torch are seeded for each batch that this process reads.

        That takes some 10 microseconds a batch, more where a step has emptied the caches. Without, the batches go on drawing
        where the process's generators stand, which a checkpoint holds. Where batches are read ahead it holds them as they stand
        after the batch that is still to be trained on, so that seeding is the only way to read that again.
        """
        return self.draws and (self.seeds.everywhere or self.reads_ahead)

    @property
    def seeds_steps(self) -> bool:
        """Whether ``random`` and numpy are seeded for each step too, for reading does not leave them where steps left them."""
        return self.seeds_batches

    @property
    def repeats_batches(self) -> bool:
        """Whether a batch that was read can be read again with the same random numbers."""
        return True

    def read_ahead(self, ahead: bool) -> None:
        """Says whether batches will be read ahead."""
        self.reads_ahead = ahead

    def data_seed(self, epoch: object) -> int:
        """The seed of the first batch of an epoch; that of another is so many higher."""
        return self.seeds.own("data", self.purpose, epoch)

    def transfer_seed(self, epoch: object) -> int:
        """Likewise for what the way to the device draws."""
        return self.seeds.own("transfer", self.purpose, epoch)

    def mark(self) -> None:
        """Called before a batch is read ahead of the one that is to be trained on."""

    def samples_of(self, number: int) -> Any:
        """The index, or the indices, of the samples of a batch that workers just read; None where that is not known."""
        return None

    def close(self) -> None:
        """The epoch is over, or reading ended early."""
        self.opened = False

    def finish(self, epoch: object, done: int, reads: int | float) -> None:
        """Leaves samplers as an epoch would whose ``done`` batches have all been done, without reading one.

        Args:
            epoch: which one.
            done: batches of it.
            reads: batches that it reads at most; infinite where it ends when no more come.
        """

    def end(self) -> None:
        """Ends what outlives an epoch."""

    def deal_out(self, deal: Deal) -> tuple[int | float, int | None] | None:
        """Has this process read its part only, if the indices can be dealt out.

        Returns:
            How many batches that is, infinite if unknown, and how many samples, None if unknown; None if each process reads
            everything.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What another process needs to go on from here besides seed, epoch and number of batches done, as plain data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that back; it is used when the stream is opened next."""


class ListStream(Stream):
    """A list or tuple of batches."""

    draws = False

    def open(self, epoch: object, done: int) -> Opened:
        """Starts at any position."""
        self.opened = True
        iterator = iterate(self.iterable)
        return Opened(islice(iterator, done, None) if done else iterator, None, done)


class StatefulStream(Stream):
    """A loader that can save its position itself, as torchdata's ``StatefulDataLoader`` does (``state_dict``)."""

    def __init__(self, iterable: Any, purpose: str, seeds: Seeds) -> None:
        super().__init__(iterable, purpose, seeds)
        self._pending: dict[str, Any] | None = None
        self._mark: dict[str, Any] | None = None
        batched = getattr(iterable, "batch_sampler", None)
        self._sampler = SamplerState(batched if batched is not None else getattr(iterable, "sampler", None))

    def open(self, epoch: object, done: int) -> Opened:
        """Has the loader go on from its saved state, or begin."""
        resumes = self._pending is not None and done > 0
        seed_generators(self.seeds.own("order", self.purpose, epoch))
        if resumes:
            assert self._pending is not None
            self.iterable.load_state_dict(self._pending)
        self._pending = self._mark = None
        self._sampler.before()
        iterator = iterate(self.iterable)
        self.opened = True
        position = done if resumes else 0
        if getattr(self.iterable, "num_workers", 0):
            return Opened(iterator, iterator, position)
        return Opened(_Seeded(iterator, self.data_seed(epoch), position), iterator, position)

    @property
    def seeds_steps(self) -> bool:
        """Always: what the loader draws where it goes on from a state is its own affair."""
        return True

    @property
    def repeats_batches(self) -> bool:
        """Never: the loader's state is that behind the batch."""
        return False

    def mark(self) -> None:
        """Remembers the state, which the batch read ahead is not to be part of."""
        self._mark = self.iterable.state_dict()

    def close(self) -> None:
        """The state of a loader that is not being read is that of its beginning."""
        super().close()
        self._mark = None

    def state_dict(self) -> dict[str, Any]:
        """The loader's own state, in the middle of an epoch; between epochs what its sampler draws from."""
        if self.opened:
            return {"loader": self._mark or self.iterable.state_dict()}
        return self._sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See the base class."""
        self._pending = state.get("loader")
        if self._pending is None:
            self._sampler.load_state_dict(state)


class IndexStream(Stream):
    """A ``DataLoader`` of torch: starts at any position by skipping indices, and loads nothing for them.

    The DataLoader is copied with one attribute exchanged, its sampler, for one that starts where it should and seeds each
    batch. That leaves the user's object alone, guesses no constructor argument, and works with workers, whose first
    batches are fetched while the iterator is made: replacing the iterator's indices would come too late.

    torch's samplers without a generator get one of their own, seeded for each epoch. Any other sampler keeps its order: torch,
    numpy and ``random`` are seeded before each of its batches, and generators that it has itself are saved as they were when
    the epoch began, so that the epoch's indices can be drawn again.
    """

    def __init__(self, iterable: DataLoader[Any], purpose: str, seeds: Seeds) -> None:
        super().__init__(iterable, purpose, seeds)
        self.loader = iterable
        self.batched = iterable.batch_sampler is not None
        self.sampler: Any = iterable.batch_sampler if self.batched else iterable.sampler
        self.streams = isinstance(iterable.dataset, IterableDataset)
        self.quiet = self.streams or _is_quiet(self.sampler)
        """Whether the sampler draws from no generator that it shares with others."""
        self.plain_data = _is_plain(iterable.dataset) and iterable.collate_fn in (default_collate, default_convert)
        """Whether no code of the user runs when a batch is fetched."""
        self.draws = not (self.quiet and self.plain_data)
        own = getattr(iterable.dataset, "state_dict", None), getattr(iterable.dataset, "load_state_dict", None)
        # A worker has a copy of the data set, whose state nobody here knows.
        self.stateful_data = callable(own[0]) and callable(own[1]) and not iterable.num_workers
        self._data_state: dict[str, Any] | None = None
        self._sampler_state = SamplerState(self.sampler)
        self._copied: DataLoader[Any] | None = None
        self._epoch: object = 0
        self._position = 0
        self._marked: dict[str, Any] | None = None
        self._ahead = (iterable.prefetch_factor or 0) * iterable.num_workers
        """How many batches workers are sent the indices of before the first is asked for."""
        self._sent: deque[tuple[int, Any]] = deque(maxlen=self._ahead + 2)
        """Which indices those were, by position."""

    @property
    def seeds_batches(self) -> bool:
        """As the base class's; evaluations always are, so that training goes on alike after one that was resumed inside."""
        return super().seeds_batches or (self.draws and not self.purpose.startswith("train"))

    @property
    def seeds_steps(self) -> bool:
        """See the base class."""
        return self.draws and (self.seeds_batches or not self.quiet)

    @property
    def repeats_batches(self) -> bool:
        """See the base class; in a worker, and behind a sampler that shares a generator, each batch is seeded."""
        if self.stateful_data:
            return False  # its state is that behind the batch
        return not self.draws or self.seeds_batches or not self.quiet or self.loader.num_workers > 0

    def open(self, epoch: object, done: int) -> Opened:
        """Starts at any position; a data set that is a stream without state has to be read."""
        loader = self._copy()
        self._marked = None
        if self.streams and self._data_state is None:
            done = 0
        if self._data_state is not None:
            if done:
                self.loader.dataset.load_state_dict(self._data_state)  # type: ignore[attr-defined]  # stateful_data
            self._data_state = None
        self._epoch, self._position = epoch, done
        if loader.generator is not None and loader.generator is not self.loader.generator:
            loader.generator.manual_seed(self.seeds.own("workers", self.purpose, epoch))
        if self.draws and not loader.num_workers and (self.seeds_batches or not done):
            seed_generators(self.seeds.own("order", self.purpose, epoch))  # what a data set draws when it is iterated over
        self._sampler_state.before()
        iterator = iterate(loader)
        self.opened = True
        return Opened(iterator, iterator, done)

    def _copy(self) -> DataLoader[Any]:
        if self._copied is not None:
            return self._copied
        copied = copy.copy(self.loader)
        # DataLoader refuses to have its sampler set, for what depends on it is worked out when it is built; nothing that the
        # copy reads does.
        attributes = vars(copied)
        attributes["batch_sampler" if self.batched else "sampler"] = _Order(self)
        attributes["_iterator"] = None
        if copied.generator is None:
            copied.generator = torch.Generator()  # for the seed of the workers, which the process's own would be drawn from
        if self.loader.persistent_workers:
            self._copied = copied
        return copied

    def deal_out(self, deal: Deal) -> tuple[int | float, int | None] | None:
        """See the base class."""
        if not can_be_dealt(self.loader):
            return None
        self.deal = deal
        try:
            return dealt_lengths(self.loader, deal)
        except TypeError:
            return float("inf"), None

    def indices(self) -> Iterator[Any]:
        """The indices of the running epoch, from the position at which it was opened on.

        With several processes all of them see the same sequence here, of which each takes its part; positions count the batches
        of one process.
        """
        self._sampler_state.begin()
        position, quiet = self._position, self.quiet
        order = self.seeds.shared("order", self.purpose, self._epoch)
        if not quiet:
            seed_generators(order)
        sampled = self._sampled(order)
        if quiet:
            next(islice(sampled, position, position), None)  # drops so many
        else:
            for passed in range(position):
                seed_generators(order + passed)
                next(sampled, None)
        seeds_here = self.seeds_batches and not self.plain_data and not self.loader.num_workers
        if quiet and not seeds_here and not self.loader.num_workers:
            return sampled
        return self._tagged(sampled, position, order, seeds_here)

    def plain_indices(self) -> Iterator[Any]:
        """The indices of the first epoch, by themselves."""
        order = self.seeds.shared("order", self.purpose, 0)
        seed_generators(order)
        return self._sampled(order)

    def _tagged(self, sampled: Iterator[Any], position: int, order: int, seeds_here: bool) -> Iterator[Any]:
        data, workers, quiet = self.data_seed(self._epoch), self.loader.num_workers, self.quiet
        while True:
            if not quiet:
                seed_generators(order + position)
            try:
                index = next(sampled)
            except StopIteration:
                return
            if workers:
                self._sent.append((position, index))
                index = SeededIndex(data + position, index)
            elif seeds_here:
                seed_generators(data + position)
            yield index
            position += 1

    def _sampled(self, seed: int) -> Iterator[Any]:
        sampler, deal = self.sampler, self.deal
        samples = deal is not None and by_sample(self.loader, deal)
        if type(sampler) is BatchSampler:
            inner = _with_generator(sampler.sampler, seed)
            if samples:
                assert deal is not None
                inner = Dealt(inner, deal)
            if inner is not sampler.sampler:
                sampler = copy.copy(sampler)
                sampler.sampler = inner
            return iter(sampler) if deal is None or samples else deal.out(sampler)
        sampler = _with_generator(sampler, seed)
        return iter(sampler) if deal is None else deal.out(sampler)

    def samples_of(self, number: int) -> Any:
        """See the base class."""
        if self.streams or not getattr(self.loader, "in_order", True):
            return None  # a stream is sent no index, and batches out of order are not known by their number
        return dict(self._sent).get(number)

    def mark(self) -> None:
        """Remembers the data set's state, which the batch read ahead is not to be part of."""
        if self.stateful_data:
            self._marked = self.loader.dataset.state_dict()  # type: ignore[attr-defined]  # stateful_data

    def finish(self, epoch: object, done: int, reads: int | float) -> None:
        """Draws the indices of the epoch, so that a sampler's generators go on from there."""
        if self.streams or (self.quiet and not self._sampler_state.has_state):
            return
        self._epoch, self._position = epoch, 0
        number = None if reads == float("inf") else done + self._ahead
        deque(islice(self.indices(), number), maxlen=0)  # no index more than the epoch drew, for each may draw numbers

    def end(self) -> None:
        """Ends workers that were kept between epochs."""
        iterator: Any = self._copied._iterator if self._copied is not None else None
        if self._copied is not None and iterator is not None:
            iterator._shutdown_workers()
            self._copied._iterator = None

    def state_dict(self) -> dict[str, Any]:
        """The generators of the sampler as they were when the epoch began, and the data set's state if it has one."""
        state = self._sampler_state.began if self.opened else self._sampler_state.state_dict()
        if state and self._copied is not None and self._copied._iterator is not None:
            state = {**state, "began": True}  # workers that are kept are given no other seed in the next epoch
        if self.stateful_data and self.opened:
            state = {**state, "data": self._marked or self.loader.dataset.state_dict()}  # type: ignore[attr-defined]  # stateful_data
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See the base class."""
        self._data_state = state.get("data")
        self._sampler_state.load_state_dict(state)


class CombinedStream(Stream):
    """Several loaders read as one, each a stream of its own."""

    iterable: CombinedLoader

    def __init__(self, iterable: CombinedLoader, purpose: str, seeds: Seeds) -> None:
        super().__init__(iterable, purpose, seeds)
        self.parts = [stream_of(loader, f"{purpose}/{index}", seeds) for index, loader in enumerate(iterable.flattened)]
        self.draws = any(part.draws for part in self.parts)
        self.lengths: list[int | float] | None = None
        """The batches that this process reads of each loader, where they are dealt out."""

    def open(self, epoch: object, done: int) -> Opened:
        """Starts at any position, if the lengths of the loaders say where each of them is then."""
        done = done if self.iterable.has_lengths else 0
        self.opened = True
        return Opened(self.iterable.read(lambda *place: self._open(epoch, *place), done, self.lengths), None, done)

    def deal_out(self, deal: Deal) -> tuple[int | float, int | None] | None:
        """Has each loader dealt out that can be."""
        dealt = [part.deal_out(deal) for part in self.parts]
        if all(lengths is None for lengths in dealt):
            return None
        if None not in dealt:
            self.deal = deal
        whole = [length_of(part.iterable) for part in self.parts]
        self.lengths = [own if lengths is None else lengths[0] for own, lengths in zip(whole, dealt, strict=True)]
        return self.iterable.length_of(self.lengths), None

    def _open(self, epoch: object, index: int, cycle: int, done: int) -> Iterator[Any]:
        opened = self.parts[index].open((epoch, cycle), done)
        for _ in range(opened.passed, done):
            next(opened.iterator, None)
        return opened.iterator

    @property
    def seeds_steps(self) -> bool:
        """See the base class."""
        return any(part.seeds_steps for part in self.parts)

    @property
    def repeats_batches(self) -> bool:
        """See the base class."""
        return all(part.repeats_batches for part in self.parts)

    def read_ahead(self, ahead: bool) -> None:
        """See the base class."""
        super().read_ahead(ahead)
        for part in self.parts:
            part.read_ahead(ahead)

    def close(self) -> None:
        """See the base class."""
        super().close()
        for part in self.parts:
            part.close()

    def mark(self) -> None:
        """See the base class."""
        for part in self.parts:
            part.mark()

    def end(self) -> None:
        """See the base class."""
        for part in self.parts:
            part.end()

    def state_dict(self) -> dict[str, Any]:
        """The state of each loader."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See the base class."""
        for part, inner in zip(self.parts, state.get("parts", []), strict=False):
            part.load_state_dict(inner)


def stream_of(iterable: Any, purpose: str, seeds: Seeds) -> Stream:
    """The stream for an iterable of batches."""
    if isinstance(iterable, CombinedLoader):
        return CombinedStream(iterable, purpose, seeds)
    if callable(getattr(iterable, "state_dict", None)) and callable(getattr(iterable, "load_state_dict", None)):
        return StatefulStream(iterable, purpose, seeds)
    if isinstance(iterable, DataLoader) and _is_read_as_torch_does(iterable):
        return IndexStream(iterable, purpose, seeds)
    kind = ListStream if type(iterable) in (list, tuple) else Stream
    return kind(iterable, purpose, seeds)


class _Order:
    """The sampler of a copied DataLoader."""

    def __init__(self, stream: IndexStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Any]:
        # A generator: torch calls iter() twice where there are workers, and before it draws their seed.
        yield from self._stream.indices()

    def __len__(self) -> int:
        return len(self._stream.sampler)


class _Seeded:
    """An iterator that seeds the generators before each batch."""

    def __init__(self, iterator: Iterator[Any], seed: int, position: int) -> None:
        self._iterator = iterator
        self._seed = seed + position

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        seed_generators(self._seed)
        self._seed += 1
        return next(self._iterator)


def _is_read_as_torch_does(loader: DataLoader[Any]) -> bool:
    # A subclass that makes its iterators in another way may not ask the sampler of this object for indices.
    return all(getattr(type(loader), name) is getattr(DataLoader, name) for name in ("__iter__", "_get_iterator"))


def _is_quiet(sampler: Any) -> bool:
    if type(sampler) is BatchSampler:
        sampler = sampler.sampler
    return type(sampler) in _QUIET_SAMPLERS


def _is_plain(dataset: Any) -> bool:
    if type(dataset) is Subset:
        return _is_plain(dataset.dataset)
    if type(dataset) is ConcatDataset:
        return all(_is_plain(part) for part in dataset.datasets)
    return type(dataset) in (TensorDataset, list, tuple, torch.Tensor)


def _with_generator(sampler: Iterable[Any], seed: int) -> Iterable[Any]:
    if type(sampler) in _SEEDABLE and sampler.generator is None:  # type: ignore[attr-defined]  # all three have it
        sampler = copy.copy(sampler)
        sampler.generator = torch.Generator().manual_seed(seed)  # type: ignore[attr-defined]  # as above
    return sampler
