"""Fits that go on from a checkpoint with every kind of loader, and what the same seed means for the data."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from .test_resume import Augmented, assert_goes_on, whole_run

pytestmark = pytest.mark.usefixtures("core_alone")


class Draws:
    """A sampler that draws from one of many sources as it goes."""

    def __init__(self, source, length=14):
        self.source, self.length, self.rounds = source, length, 0
        self.own = {"random": random.Random(3), "numpy": np.random.default_rng(3), "old numpy": np.random.RandomState(3),
                    "torch": torch.Generator().manual_seed(3)}.get(source)  # fmt: skip

    def __len__(self):
        return self.length

    def __iter__(self):
        self.rounds += 1
        for _ in range(self.length):
            if self.source == "rounds":
                yield (self.rounds * 5 + _) % self.length
            elif self.source == "global torch":
                yield int(torch.randint(self.length, ()))
            elif self.source == "global numpy":
                yield int(np.random.randint(self.length))
            elif self.source == "torch":
                yield int(torch.randint(self.length, (), generator=self.own))
            elif self.source == "random":
                yield self.own.randrange(self.length)
            else:
                yield int((self.own.integers if self.source == "numpy" else self.own.randint)(self.length))


class Pairs:
    """A batch sampler of the user's own, in an order of its own generator, which says how many times it was read."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(1)

    def __len__(self):
        return 5

    def __iter__(self):
        order = torch.randperm(14, generator=self.generator).tolist()
        return iter([order[index : index + 3] for index in range(0, 14, 3)])


class Saves:
    """A sampler that saves its position itself."""

    def __init__(self):
        self.start = 0

    def __len__(self):
        return 14

    def __iter__(self):
        self.start += 1
        return iter([(index + self.start) % 14 for index in range(14)])

    def state_dict(self):
        return {"start": self.start}

    def load_state_dict(self, state):
        self.start = state["start"]


class Numbers(IterableDataset):
    """A stream without a length and without state."""

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        augmented = Augmented()
        return (augmented[index] for index in range(first, 14, step))


class StatefulNumbers(IterableDataset):
    """A stream that saves its position."""

    reads = 0

    def __init__(self):
        self.next = 0

    def __iter__(self):
        augmented = Augmented()
        while self.next < 14:
            self.next += 1
            type(self).reads += 1
            yield augmented[self.next - 1]
        self.next = 0

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


class Generated:
    """An iterable of the user's own that draws its batches."""

    def __iter__(self):
        for index in range(5):
            yield torch.randn(3, 6) + np.random.rand(), torch.arange(3) + index


def loader(**options):
    return lambda: DataLoader(Augmented(), **{"batch_size": 3, **{k: v() if callable(v) else v for k, v in options.items()}})


LOADERS = {
    "in order": loader(),
    "shuffled": loader(shuffle=True),
    "single samples": loader(shuffle=True, batch_size=None),
    "weighted": loader(sampler=lambda: WeightedRandomSampler([1.0, 2.0] * 7, 14)),
    "a subset": loader(sampler=lambda: SubsetRandomSampler(range(3, 14))),
    "with replacement": loader(sampler=lambda: RandomSampler(range(14), replacement=True, num_samples=39)),
    "a generator of the user's": loader(shuffle=True, generator=lambda: torch.Generator().manual_seed(4)),
    "a generator in the sampler": loader(sampler=lambda: RandomSampler(range(14), generator=torch.Generator().manual_seed(4))),
    "torch's batches": loader(batch_sampler=lambda: BatchSampler(RandomSampler(range(14)), 4, True), batch_size=1),
    "a batch sampler of the user's": loader(batch_sampler=Pairs, batch_size=1),
    "a sampler with state": loader(sampler=Saves),
    **{f"a sampler that draws from {source}": loader(sampler=lambda source=source: Draws(source))
       for source in ("rounds", "global torch", "global numpy", "torch", "random", "numpy", "old numpy")},
    "a stream": lambda: DataLoader(Numbers(), batch_size=3),
    "a stream with state": lambda: DataLoader(StatefulNumbers(), batch_size=3),
    "an iterable": Generated,
    "a list": lambda: [(torch.linspace(0, 1, 18).view(3, 6) * number, torch.arange(3) + number) for number in range(5)],
}  # fmt: skip
READ_AGAIN = ("a stream", "an iterable")


@pytest.mark.parametrize("kind", LOADERS)
def test_a_run_goes_on_exactly_with_any_loader(kind, capsys):
    torch.manual_seed(0)
    whole = whole_run(data=LOADERS[kind], val_check_interval=2 if kind not in READ_AGAIN else None)
    ends = [number for number, call in enumerate(whole[1], 1) if call[0] == "on_train_batch_end"]
    others = [number for number, call in enumerate(whole[1], 1) if call[0] in ("on_train_epoch_end", "on_validation_end")]
    for at in sorted({*ends[::2], ends[-1], *others}):
        torch.manual_seed(0)
        assert_goes_on(at, whole, data=LOADERS[kind], val_check_interval=2 if kind not in READ_AGAIN else None)
    said = "cannot start in the middle of an epoch" in capsys.readouterr().err
    assert said is (kind in READ_AGAIN)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    "kind", ["shuffled", "weighted", "a generator of the user's", "a batch sampler of the user's", "a stream"]
)
def test_a_run_goes_on_exactly_with_workers(kind, persistent):
    def data():
        made = LOADERS[kind]()
        fresh = copy.copy(made)
        vars(fresh).update(num_workers=2, prefetch_factor=2, persistent_workers=persistent, drop_last=True)
        return fresh

    whole = whole_run(data=data)
    ends = [number for number, call in enumerate(whole[1], 1) if call[0] in ("on_train_batch_end", "on_train_epoch_end")]
    for at in (ends[1], ends[-3], ends[len(ends) // 2 - 1]):
        assert_goes_on(at, whole, data=data)
