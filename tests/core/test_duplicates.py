"""Workers that each give the same samples are noticed."""

from __future__ import annotations

import pytest
import torch
from leyden import LeydenWarning, Trainer
from leyden.testing import RandomData, TinyModule
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

pytestmark = pytest.mark.usefixtures("core_alone")


class Stream(IterableDataset):
    """Gives what ``share`` makes of 16 samples and the worker."""

    def __init__(self, share=lambda samples, info: samples, length=16):
        self.samples = [RandomData(length)[index] for index in range(length)]
        self.share = share

    def __iter__(self):
        return iter(self.share(self.samples, get_worker_info()))


class Ids(Stream):
    """Its samples have ids, and random content."""

    def __iter__(self):
        return ({"id": index, "x": torch.rand(8), "y": 1} for index, _ in enumerate(super().__iter__()))


class Takes(TinyModule):
    def training_step(self, batch, batch_idx):
        return super().training_step((batch["x"], batch["y"]) if isinstance(batch, dict) else batch, batch_idx)


def fit(dataset, workers=2, **options):
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context="fork" if workers else None)
    trainer = Trainer(**{"max_epochs": 2, "limit_val_batches": 0, **options})
    trainer.fit(Takes(), loader)
    return trainer


def message(name, workers):
    return (
        f"the {workers} workers of train_dataloaders give the same samples, so each is read {workers} times an epoch: {name} "
        f"does not look at its worker; in {name}.__iter__, give worker torch.utils.data.get_worker_info().id every "
        f"num_workers-th sample, or pass num_workers=1"
    )


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("dataset", "workers"), [(Stream(), 2), (Stream(), 3), (Ids(), 2)])
def test_a_stream_that_does_not_look_at_its_worker_is_named_once(dataset, workers):
    with pytest.warns(LeydenWarning) as caught:
        trainer = fit(dataset, workers)
    said = [(str(w.message), w.category.__name__) for w in caught if issubclass(w.category, LeydenWarning)]
    assert said == [(message(type(dataset).__name__, workers), "LY030")]
    assert trainer.global_step == 2 * workers * 4


@pytest.mark.parametrize(
    ("dataset", "workers"),
    [
        (Stream(lambda samples, info: samples[info.id :: info.num_workers]), 2),  # as it should be
        (Stream(), 1),
        (Stream(), 0),
        (Stream(lambda samples, info: samples[:4]), 2),  # one batch a worker says nothing
        (Stream(lambda samples, info: [samples[0]] * 16), 2),  # nor does data that is all alike
    ],
    ids=["shared", "one worker", "no worker", "short", "constant"],
)
@pytest.mark.filterwarnings("default::leyden.LeydenWarning")
def test_nothing_is_said_of_others(dataset, workers, recwarn):
    fit(dataset, workers)
    said = [str(warning.message) for warning in recwarn if issubclass(warning.category, LeydenWarning)]
    assert said == []
