"""Fits that go on from a checkpoint with every kind of loader, and what the same seed means for the data."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from leyden import Callback, Trainer, seed_everything
from leyden.data.combined import CombinedLoader
from leyden.data.streams import Seeds, stream_of
from leyden.testing import TinyModule
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from .test_resume import Augmented, Net, assert_goes_on, interrupted, whole_run

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


class InPlace:
    """A sampler that shuffles, in place, what the epoch before has left: a list, buckets of a list, an array or a tensor."""

    def __init__(self, kind):
        buckets = [[*range(7)], [*range(7, 13)], [13]]
        self.order = {"a list": [*range(14)], "buckets": buckets, "an array": np.arange(14, dtype=np.int32),
                      "a tensor": torch.arange(14)}[kind]  # fmt: skip

    def __len__(self):
        return 14

    def __iter__(self):
        if isinstance(self.order, torch.Tensor):
            self.order = self.order[torch.randperm(14)]
        else:
            (np.random if isinstance(self.order, np.ndarray) else random).shuffle(self.order)
        for bucket in self.order if isinstance(self.order[0], list) else ():
            random.shuffle(bucket)
        return iter(np.concatenate(self.order).tolist() if isinstance(self.order[0], list) else [int(i) for i in self.order])


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
    **{f"a sampler that shuffles {kind} in place": loader(sampler=lambda kind=kind: InPlace(kind))
       for kind in ("a list", "buckets", "an array", "a tensor")},
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


@pytest.mark.parametrize("kind", ["a generator of the user's", "a sampler that draws from torch"])
def test_a_limited_epoch_goes_on_exactly_after_its_last_batch(kind):
    whole = whole_run(data=LOADERS[kind], limit_train_batches=4)
    at = next(number for number, call in enumerate(whole[1], 1) if call[0] == "on_validation_end")
    assert_goes_on(at, whole, data=LOADERS[kind], limit_train_batches=4)


def test_a_batch_of_a_stream_with_state_that_has_begun_is_not_left_out():
    kind = LOADERS["a stream with state"]
    whole = whole_run(data=kind)
    begun = [number for number, call in enumerate(whole[1], 1) if call[0] == "on_train_batch_start"]
    for at in (begun[0], begun[2]):
        assert_goes_on(at, whole, data=kind)


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


# ---- the same seed, the same run ----


class Drawing(Callback):
    """Draws in hooks of every kind."""

    def draw(self):
        return torch.rand(3), np.random.rand(3), random.random()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.draw()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.draw()

    def on_train_epoch_start(self, trainer, module):
        self.draw()

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        self.draw()


def test_promise_40_the_same_seed_gives_the_same_run_at_any_number_of_workers():
    def run(workers):
        seed_everything(7, workers=True)
        module = Net()
        data = DataLoader(Augmented(), batch_size=3, shuffle=True, num_workers=workers)
        Trainer(max_epochs=2, num_sanity_val_steps=0).fit(module, data, DataLoader(Augmented(4), num_workers=workers))
        return module.seen

    alone = run(0)
    assert run(1) == alone
    assert run(2) == alone
    batches = [seen[0] for seen in alone if seen[0] != "val"]
    first, second = ([index for batch in part for index in batch] for part in (batches[:5], batches[5:]))
    assert sorted(first) == sorted(second) == list(range(14))
    assert first != second  # another order in each epoch, and other noise
    noise = [seen[2] if seen[0] == "val" else seen[1] for seen in alone]
    assert len(set(noise)) == len(noise)


def test_promise_40_a_callback_that_draws_numbers_changes_nothing():
    def run(callbacks):
        seed_everything(7, workers=True)
        module = Net()
        Trainer(max_epochs=2, num_sanity_val_steps=0, callbacks=callbacks).fit(
            module, DataLoader(Augmented(), batch_size=3, shuffle=True), DataLoader(Augmented(4))
        )
        return module.seen

    assert run([Drawing()]) == run([])


class Drops(TinyModule):
    def __init__(self):
        super().__init__()
        self.drop, self.losses = nn.Dropout(0.5), []

    def training_step(self, batch, batch_idx):
        loss = self.drop(super().training_step(batch, batch_idx))
        self.losses.append(loss.item())
        return loss


def test_promise_40_what_a_callback_draws_from_torch_changes_no_step_however_seeded():
    def run(callbacks):
        torch.manual_seed(7)
        module = Drops()
        Trainer(max_epochs=2, callbacks=callbacks).fit(module)
        return module.losses

    assert run([Drawing()]) == run([])


def test_promise_40_an_unseeded_run_is_repeated_by_the_seed_in_its_history():
    def run():
        module = Net()
        module.load_state_dict(start)
        history = Trainer(max_epochs=1, num_sanity_val_steps=0).fit(module, DataLoader(Augmented(), batch_size=3, shuffle=True))
        return module.seen, history.seed

    start = Net().state_dict()
    torch.manual_seed(torch.randint(2**31, ()).item())  # stands for the number that torch draws when it is imported
    first, seed = run()
    seed_everything(seed)
    assert run() == (first, seed)


def test_a_run_leaves_the_random_numbers_outside_as_they_were():
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    module = Net.__new__(Net)
    with torch.random.fork_rng():
        module.__init__()
    Trainer(max_epochs=1).fit(module, DataLoader(Augmented(), batch_size=3, shuffle=True), DataLoader(Augmented(4)))
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


# ---- the order of indices ----


@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 70),
    st.sampled_from(["shuffled", "own"]),
)
@settings(max_examples=60, deadline=None)
def test_indices_are_a_function_of_seed_epoch_and_position(length, batch_size, drop_last, epoch, done, kind):
    def indices(done, seed=4):
        sampler = {"sampler": Draws("global torch", length)} if kind == "own" else {"shuffle": True}
        stream = stream_of(
            DataLoader(TensorDataset(torch.arange(length)), batch_size=batch_size, drop_last=drop_last, **sampler),
            "train",
            Seeds(seed),
        )
        torch.rand(done + 1)  # whatever was drawn before
        return [batch[0].tolist() for batch in stream.open(epoch, done).iterator]

    assert indices(done) == indices(0)[done:]


@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle", "sequential"])
def test_combined_loaders_start_at_any_position(mode):
    def read(done):
        loaders = [DataLoader(TensorDataset(torch.arange(n)), batch_size=2, shuffle=True) for n in (4, 10, 6)]
        stream = stream_of(CombinedLoader(loaders, mode), "train", Seeds(2))
        opened = stream.open(1, done)
        assert opened.passed == done
        return [str(batch) for batch in opened.iterator]

    whole = read(0)
    for done in range(len(whole) + 1):
        assert read(done) == whole[done:]


def test_skipping_loads_no_sample():
    class Refuses(Dataset):
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            read.append(index)
            return torch.tensor(index)

    read = []
    stream = stream_of(DataLoader(Refuses(), batch_size=10, shuffle=True), "train", Seeds(2))
    next(stream.open(0, 99).iterator)
    assert len(read) == 10


def test_the_users_loader_and_sampler_are_left_alone():
    data = DataLoader(Augmented(), batch_size=3, shuffle=True, num_workers=1, persistent_workers=True)
    before = {**vars(data)}, {**vars(data.sampler)}
    Trainer(max_epochs=2, num_sanity_val_steps=0).fit(Net(), data)
    assert ({**vars(data)}, {**vars(data.sampler)}) == before


# ---- torchdata ----


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata's own
@pytest.mark.parametrize(("kind", "workers"), [("indices", 0), ("indices", 2), ("stream", 0)])
def test_a_stateful_loader_goes_on_where_it_was(kind, workers, capsys):
    torchdata = pytest.importorskip("torchdata.stateful_dataloader", reason="needs torchdata")

    def data():
        dataset = Augmented() if kind == "indices" else StatefulNumbers()
        return torchdata.StatefulDataLoader(dataset, batch_size=3, num_workers=workers, drop_last=True, shuffle=kind == "indices")

    class Plain(Net):  # what workers of another library draw is their own
        def loss(self, batch):
            return super().loss((torch.cat([torch.zeros(len(batch[0]), 3), batch[0][:, 3:]], dim=1), batch[1]))

    def of(seen):
        return [(ids, loss) for ids, _, loss in seen if ids != "val"]

    torch.manual_seed(0)
    module, calls, _, _ = whole_run(Plain, data=data, val_data=None)
    numbers = [number for number, call in enumerate(calls, 1) if call[0] in ("on_train_batch_end", "on_train_epoch_end")]
    for at in (numbers[1], numbers[len(numbers) // 2 - 1], numbers[-2]):
        _, again, _, seen, _ = interrupted(at, Plain, data=data, val_data=None)
        assert again == calls
        assert of(seen) == of(module.seen)
    assert "cannot start in the middle" not in capsys.readouterr().err


def test_a_restored_loader_that_is_exhausted_starts_the_next_epoch():
    class Exhausted:
        """Thinks when it is restored that its epoch is over."""

        def __init__(self):
            self.over = False

        def __iter__(self):
            over, self.over = self.over, False
            return iter([] if over else [(torch.ones(3, 6), torch.arange(3))] * 4)

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            self.over = True

    torch.manual_seed(0)
    _, calls, _, _ = whole_run(data=Exhausted, val_data=None)
    at = next(number for number, call in enumerate(calls, 1) if call[0] == "on_train_batch_end" and call[3] == 1)
    *_, trainer = interrupted(at, data=Exhausted, val_data=None)
    assert (trainer.current_epoch, trainer.progress.total_batches) == (2, 2 + 4)
