"""Reading batches: errors with their place, stalls that are said, workers and threads that end with the run."""

from __future__ import annotations

import inspect
import itertools
import multiprocessing
import os
import re
import signal
import threading
import time

import leyden.data.reading
import pytest
import torch
from leyden import Callback, Trainer
from leyden.data.combined import CombinedLoader
from leyden.testing import RandomData, TinyModule
from torch.utils.data import DataLoader, Dataset, IterableDataset

pytestmark = pytest.mark.usefixtures("core_alone")


def fit(loader, module=None, **options):
    trainer = Trainer(**{"max_epochs": 1, "limit_val_batches": 0, "num_sanity_val_steps": 0, **options})
    trainer.fit(module or TinyModule(), loader)
    return trainer


class Raises(RandomData):
    """Raises at one index."""

    def __init__(self, error, at=5, size=8):
        super().__init__(size)
        self.error, self.at = error, at

    def __getitem__(self, index):
        if index == self.at:
            raise self.error
        return super().__getitem__(index)


# ---- errors that look like the end of an epoch ----


@pytest.mark.parametrize("workers", [0, 2])
def test_stop_iteration_of_a_data_set_is_an_error(workers):
    with pytest.raises(RuntimeError) as caught:
        fit(DataLoader(Raises(StopIteration("the user's own")), batch_size=2, num_workers=workers))
    assert str(caught.value) == (
        f"StopIteration was raised while reading {'samples [4, 5]' if workers else 'sample 5'} for batch 2 of train_dataloaders; "
        f"it would end the epoch without a word, so raise another error in the data set or the collate function"
    )
    assert isinstance(caught.value.__cause__, StopIteration)
    assert "the user's own" in str(caught.value.__cause__)


def test_stop_iteration_of_a_collate_function_is_an_error():
    def collate(samples):
        return next(iter([]))

    with pytest.raises(
        RuntimeError, match=r"StopIteration was raised while reading samples \[0\] for batch 0 of train_dataloaders"
    ):
        fit(DataLoader(RandomData(8), collate_fn=collate))


@pytest.mark.parametrize("workers", [0, 2])
def test_index_error_of_a_data_set_leaves_fit_with_its_place(workers):
    with pytest.raises(IndexError) as caught:
        fit(DataLoader(Raises(IndexError("the user's own")), batch_size=2, num_workers=workers))
    assert "the user's own" in str(caught.value)
    which = "samples [4, 5]" if workers else "sample 5"  # a worker's own variables stay there
    assert caught.value.__notes__ == [f"while reading {which} for batch 2 of train_dataloaders"]


class Streams(IterableDataset):
    def __iter__(self):
        yield from RandomData(2)
        raise KeyError("the user's own")


class CannotBegin(IterableDataset):
    def __iter__(self):
        raise KeyError("the user's own")


@pytest.mark.parametrize(
    ("data", "options", "samples"),
    [
        (Raises(IndexError("the user's own")), {"batch_size": None, "num_workers": 1}, "sample 5 for batch 5"),
        (Raises(IndexError("the user's own")), {"batch_sampler": [[0, 1], [7, 5]], "num_workers": 2, "prefetch_factor": 1},
         "samples [7, 5] for batch 1"),
        (Raises(IndexError("the user's own")), {"num_workers": 2, "persistent_workers": True}, "samples [5] for batch 5"),
        (Streams(), {"num_workers": 1}, "batch 2"),
        (Streams(), {}, "batch 2"),
    ],
    ids=["no batches", "batch sampler", "persistent workers", "a worker's stream", "stream"],
)  # fmt: skip
def test_the_samples_of_a_batch_are_named_where_they_are_known(data, options, samples):
    with pytest.raises((IndexError, KeyError), match="the user's own") as caught:
        fit(DataLoader(data, **options))
    assert caught.value.__notes__ == [f"while reading {samples} of train_dataloaders"]


def test_a_loader_that_cannot_begin_is_named():
    with pytest.raises(KeyError, match="the user's own") as caught:
        fit(DataLoader(CannotBegin()))
    assert caught.value.__notes__ == ["while beginning to read train_dataloaders"]


def test_a_collate_functions_error_names_the_samples_of_the_batch():
    def collate(samples):
        raise KeyError("the user's own")

    with pytest.raises(KeyError) as caught:
        fit(DataLoader(RandomData(8), batch_size=2, collate_fn=collate))
    assert caught.value.__notes__ == ["while reading samples [0, 1] for batch 0 of train_dataloaders"]


def test_of_a_large_batch_of_a_worker_the_first_samples_are_named():
    with pytest.raises(IndexError) as caught:
        fit(DataLoader(Raises(IndexError("the user's own"), at=31, size=64), batch_size=32, num_workers=1))
    first = ", ".join(map(str, range(20)))
    assert caught.value.__notes__ == [f"while reading samples [{first}, ... 32 in all] for batch 0 of train_dataloaders"]


def test_the_samples_of_a_worker_are_named_in_every_epoch_and_after_many_batches():
    class Later(RandomData):
        def __getitem__(self, index):
            if index == 201:
                raise ValueError("the user's own")
            return super().__getitem__(index)

    with pytest.raises(ValueError, match="the user's own") as caught:
        fit(DataLoader(Later(400), batch_size=2, num_workers=2), max_epochs=2, limit_train_batches=110)
    assert caught.value.__notes__ == ["while reading samples [200, 201] for batch 100 of train_dataloaders"]


def test_the_place_names_the_loader_and_counts_anew_in_each_epoch():
    class Validates(TinyModule):
        def val_dataloader(self):
            return {"good": DataLoader(RandomData(2)), "bad": DataLoader(Raises(KeyError("the user's own"), at=1))}

        def validation_step(self, batch, batch_idx, dataloader_idx):
            pass

    with pytest.raises(KeyError) as caught:
        fit(DataLoader(RandomData(8)), Validates(), limit_val_batches=1.0)
    assert caught.value.__notes__ == ["while reading sample 1 for batch 1 of Validates.val_dataloader()['bad']"]


@pytest.mark.parametrize("error", [StopIteration, IndexError])
@pytest.mark.parametrize("place", ["training_step", "on_train_batch_start", "validation_step", "on_train_epoch_end"])
def test_such_an_error_of_the_users_own_code_never_ends_an_epoch_in_silence(place, error):
    def fails(*args, **kwargs):
        raise error("the user's own")

    module = type("Fails", (TinyModule,), {place: lambda self, *args: fails()})()
    with pytest.raises((error, RuntimeError)) as caught:
        fit(DataLoader(RandomData(8)), module, limit_val_batches=1)
    causes = [caught.value, caught.value.__cause__]
    assert any(isinstance(cause, error) and "the user's own" in str(cause) for cause in causes)


class Counts(TinyModule):
    def __init__(self):
        super().__init__()
        self.trained = 0

    def training_step(self, batch, batch_idx):
        self.trained += 1
        return super().training_step(batch, batch_idx)


class Batches:
    """A batch sampler that is its own iterator, and so raises StopIteration itself."""

    def __init__(self):
        self.left = 3

    def __iter__(self):
        self.left = 3
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return [0, 1]

    def __len__(self):
        return 5  # more than it gives


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:the training loader says")
def test_a_sampler_that_ends_is_no_error(workers):
    module = Counts()
    fit(DataLoader(RandomData(8), batch_sampler=Batches(), num_workers=workers), module, max_epochs=2)
    assert module.trained == 6


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_that_ends_is_no_error(workers):
    class Ends(IterableDataset):
        def __iter__(self):
            self.left = iter(range(3))
            return self

        def __next__(self):
            next(self.left)
            return torch.ones(8), torch.tensor(1)

    module = Counts()
    fit(DataLoader(Ends(), num_workers=workers), module, max_epochs=2)
    assert module.trained == 6


# ---- workers that die or stall ----


class Dies(RandomData):
    def __getitem__(self, index):
        if index == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_killed_worker_is_said_with_what_it_may_have_been():
    with pytest.raises(RuntimeError) as caught:
        fit(DataLoader(Dies(8), batch_size=2, num_workers=1))
    assert caught.value.__notes__[-1] == (
        "if a worker was killed, memory is short, or shared memory is (docker: --shm-size); num_workers=0 shows errors of the "
        "data set where they happen"
    )
    said = "\n".join([str(caught.value), *caught.value.__notes__])
    assert re.search(
        r"DataLoader worker 0 \(process \d+\) ended with exit code -9 and gave batch [12] no more of train_dataloaders", said
    )


class Slow(RandomData):
    """Its third batch waits until somebody lets it go."""

    def __init__(self, file):
        super().__init__(8)
        self.file = file

    def __getitem__(self, index):
        while index == 4 and not self.file.exists():
            time.sleep(0.01)
        return super().__getitem__(index)


def test_a_stalled_worker_is_announced_with_the_batch_and_the_process(monkeypatch, tmp_path):
    said = []
    file = tmp_path / "go"

    line = inspect.getsourcelines(Slow.__getitem__)[1] + 2
    wanted = (
        rf"waiting \d+ s for batch 2 of train_dataloaders: worker 0 \(process \d+\) is in __getitem__, {re.escape(__file__)} "
        rf"line {line}; timeout=... on the DataLoader makes this an error"
    )

    def notify(message_id, text, *, every_rank):
        said.append(text)
        if re.fullmatch(wanted, text):  # and not where the worker was seen looking for the file
            file.touch()

    monkeypatch.setattr(leyden.data.reading, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(leyden.data.reading, "notify", notify)
    module = Counts()
    fit(DataLoader(Slow(file), batch_size=2, num_workers=1), module)
    assert module.trained == 4
    assert any(re.fullmatch(wanted, text) for text in said), said


def test_a_loader_with_a_timeout_of_its_own_is_not_watched(monkeypatch):
    started = []
    monkeypatch.setattr(leyden.data.reading, "_Watch", lambda reader: started.append(reader))
    fit(DataLoader(RandomData(8), num_workers=1, timeout=60))
    assert started == []


# ---- nothing is left ----


def workers_alive():
    return multiprocessing.active_children()


def watches():
    return [thread.name for thread in threading.enumerate() if thread.name == "leyden-stall-watch"]


def failing(place):
    class Module(TinyModule):
        pass

    def fail(*args):
        raise RuntimeError("the user's own")

    setattr(Module, place, fail)
    return Module()


PLACES = ["training_step", "on_train_batch_start", "on_train_batch_end", "validation_step", "on_validation_batch_end",
          "on_train_epoch_end", "on_before_optimizer_step"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_worker_and_no_thread_is_left_after_an_exception_that_somebody_keeps(place):
    before = workers_alive()
    loaders = [DataLoader(RandomData(8), batch_size=2, num_workers=1) for _ in range(2)]
    with pytest.raises(RuntimeError, match="the user's own") as caught:
        Trainer(max_epochs=1, num_sanity_val_steps=0, val_check_interval=2).fit(failing(place), *loaders)
    assert caught.value.__traceback__ is not None
    assert watches() == []
    assert workers_alive() == before


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("options", [{}, {"max_steps": 1}, {"limit_train_batches": 2}], ids=["whole", "stopped", "limited"])
def test_no_worker_and_no_thread_is_left_after_a_fit(options, persistent):
    before = workers_alive()
    train, val = (DataLoader(RandomData(8), batch_size=2, num_workers=1, persistent_workers=persistent) for _ in range(2))
    Trainer(**{"max_epochs": 2, **options}).fit(TinyModule(), train, val)
    assert watches() == []
    assert workers_alive() == before


def test_persistent_workers_are_used_again_in_every_epoch_of_a_run():
    processes = []

    class Notes(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            processes.append(batch[1].tolist())

    class Process(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return torch.ones(8), os.getpid() % 2**31

    class Steps(TinyModule):
        def training_step(self, batch, batch_idx):
            return super().training_step((batch[0], torch.zeros(1, dtype=torch.long)), batch_idx)

    loader = DataLoader(Process(), num_workers=1, persistent_workers=True)
    trainer = Trainer(max_epochs=3, callbacks=[Notes()], limit_val_batches=0)
    trainer.fit(Steps(), loader)
    assert len(set(itertools.chain(*processes))) == 1
    trainer.fit(Steps(), loader)  # and the loader can be read again
    assert len(set(itertools.chain(*processes))) == 2


# ---- batches that are read ahead ----


class OneBuffer(IterableDataset):
    """Gives every batch in the same tensors."""

    def __init__(self, fills):
        self.fills = fills

    def __iter__(self):
        x, y = torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64)
        for number in range(4):
            if self.fills:
                x.fill_(number)
            yield {"x": [x], "y": y}


class Takes(TinyModule):
    def training_step(self, batch, batch_idx):
        return super().training_step((batch["x"][0], batch["y"]), batch_idx)

    def test_step(self, batch, batch_idx):
        self.log("x", batch["x"][0].mean(), batch_size=2)

    def predict_step(self, batch, batch_idx):
        return batch["x"][0].mean().item()


@pytest.mark.parametrize("loader", [OneBuffer, lambda fills: DataLoader(OneBuffer(fills), batch_size=None)])
def test_a_batch_that_the_next_one_overwrites_is_an_error(loader):
    trainer = Trainer(max_epochs=1)
    with pytest.raises(ValueError, match=r"^batch 0 of .* was changed in place while the batch after it"):
        trainer.fit(Takes(), loader(True))
    trainer.fit(Takes(), loader(False))


@pytest.mark.parametrize("loader", [OneBuffer, lambda fills: DataLoader(OneBuffer(fills), batch_size=None)])
def test_an_evaluation_may_be_given_every_batch_in_the_same_tensors(loader):
    assert Trainer().test(Takes(), loader(True), verbose=False) == [{"x": 1.5}]
    assert Trainer().predict(Takes(), loader(True)) == [0.0, 1.0, 2.0, 3.0]

    class Gives(Takes):
        def predict_step(self, batch, batch_idx):
            return batch["x"][0]

    assert [prediction[0, 0].item() for prediction in Trainer().predict(Gives(), loader(True))] == [0.0, 1.0, 2.0, 3.0]


# ---- overfit_batches ----


class Ids(Dataset):
    """Samples that say which they are."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.full((8,), float(index)), torch.tensor(index % 2)


class Seen(TinyModule):
    def __init__(self):
        super().__init__()
        self.trained, self.validated = {}, {}

    def training_step(self, batch, batch_idx):
        self.trained.setdefault(self.current_epoch, []).extend(batch[0][:, 0].int().tolist())
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.validated.setdefault(self.current_epoch, []).extend(batch[0][:, 0].int().tolist())


def overfit(loader, **options):
    module = Seen()
    Trainer(**{"max_epochs": 3, "num_sanity_val_steps": 0, "overfit_batches": 2, **options}).fit(
        module, loader, DataLoader(RandomData(4))
    )
    return module


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("shuffle", [False, True])
def test_overfit_batches_trains_and_validates_on_the_same_samples_in_every_epoch(shuffle, workers):
    module = overfit(DataLoader(Ids(), batch_size=3, shuffle=shuffle, num_workers=workers))
    first = module.trained[0]
    assert len(first) == 6
    assert (first == [0, 1, 2, 3, 4, 5]) is not shuffle
    assert module.trained == module.validated == {0: first, 1: first, 2: first}


def test_overfit_batches_of_a_loader_of_single_samples_are_the_same_in_every_epoch():
    class Single(Seen):
        def training_step(self, batch, batch_idx):
            return super().training_step([part[None] for part in batch], batch_idx)

        def validation_step(self, batch, batch_idx):
            super().validation_step([part[None] for part in batch], batch_idx)

    module = Single()
    Trainer(max_epochs=3, num_sanity_val_steps=0, overfit_batches=4).fit(module, DataLoader(Ids(), batch_size=None, shuffle=True))
    first = module.trained[0]
    assert len(first) == 4
    assert module.trained == module.validated == {0: first, 1: first, 2: first}


@pytest.mark.parametrize(("mode", "batches"), [("max_size_cycle", 3), ("min_size", 2), ("max_size", 3)])
def test_overfit_batches_of_several_loaders_are_the_same_samples_in_every_epoch(mode, batches):
    class Several(Seen):
        def note(self, seen, batch):
            ids = [None if part is None else part[0][:, 0].tolist() for part in (batch["a"], batch["b"])]
            seen.setdefault(self.current_epoch, []).append(ids)

        def training_step(self, batch, batch_idx):
            self.note(self.trained, batch)
            return TinyModule.training_step(self, batch["a"], batch_idx)

        def validation_step(self, batch, batch_idx):
            self.note(self.validated, batch)

    module = Several()
    loaders = {"a": DataLoader(Ids(), batch_size=3, shuffle=True), "b": DataLoader(Ids(), batch_size=6, shuffle=True)}
    trainer = Trainer(max_epochs=3, num_sanity_val_steps=0, overfit_batches=3)
    trainer.fit(module, CombinedLoader(loaders, mode))
    first = module.trained[0]
    assert len(first) == batches
    assert module.trained == module.validated == {0: first, 1: first, 2: first}


def test_overfit_batches_of_loaders_in_sequence_are_the_first_of_them_all():
    class InSequence(Seen):
        def training_step(self, batch, batch_idx):
            batch, inner_idx, loader_idx = batch
            self.trained.setdefault(self.current_epoch, []).append((loader_idx, inner_idx, batch[0][:, 0].tolist()))
            return TinyModule.training_step(self, batch, batch_idx)

    module, loaders = InSequence(), [DataLoader(Ids(), batch_size=4, shuffle=True) for _ in range(3)]
    Trainer(max_epochs=2, limit_val_batches=0, overfit_batches=5).fit(module, CombinedLoader(loaders, "sequential"))
    assert [place[:2] for place in module.trained[0]] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert module.trained[0] == module.trained[1]


def test_overfit_batches_as_a_fraction():
    assert len(overfit(DataLoader(Ids(), batch_size=3), overfit_batches=0.25).trained[0]) == 3


def test_overfit_batches_of_an_iterable_reads_its_first_batches_anew():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([Ids()[index] for index in range(12)])

    module = overfit(DataLoader(Stream(), batch_size=3))
    assert module.trained == module.validated == {epoch: [0, 1, 2, 3, 4, 5] for epoch in range(3)}


def test_overfit_batches_draws_no_number_of_training():
    drawn = []
    for options in ({"overfit_batches": 2}, {"limit_train_batches": 2, "overfit_batches": 0.0}):
        torch.manual_seed(1)
        overfit(DataLoader(Ids(), batch_size=3, shuffle=True), max_epochs=0, **options)
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]
