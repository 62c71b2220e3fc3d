"""What a fit says it will do before its first step."""

from __future__ import annotations

import pytest
from leyden import Callback, Logger, Trainer
from leyden.testing import RandomData, TinyModule
from torch.utils.data import DataLoader, IterableDataset

pytestmark = pytest.mark.usefixtures("core_alone")

NEVER_LOGS = "logs every 50 optimizer steps and at the end of each epoch, to the history alone"


class Notes(Callback):
    def __init__(self):
        self.lines = []

    def on_train_start(self, trainer):
        self.lines = trainer.outline().splitlines()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(RandomData(8))


def outline(loader=None, **options):
    notes = Notes()
    Trainer(**{"max_epochs": 2, "callbacks": [notes], **options}).fit(TinyModule(), loader)
    return notes.lines


@pytest.mark.parametrize(
    ("options", "training", "validation"),
    [
        ({}, "trains 2 epochs of 4 batches, 8 optimizer steps in all", "validates at the end of each epoch, 2 batches"),
        (
            {"max_epochs": 1, "limit_train_batches": 1, "check_val_every_n_epoch": 2, "limit_val_batches": 1},
            "trains 1 epoch of 1 batch, 1 optimizer step in all",
            "validates at the end of every 2 epochs, 1 batch",
        ),
        (
            {"accumulate_grad_batches": 3, "val_check_interval": 2},
            "trains 2 epochs of 4 batches, 3 batches to an optimizer step, 4 optimizer steps in all",
            "validates every 2 batches, 2 batches",
        ),
        (
            {"accumulate_grad_batches": 3, "carry_accumulation": True, "val_check_interval": "3 batches"},
            "trains 2 epochs of 4 batches, 3 batches to an optimizer step, 3 optimizer steps in all",
            "validates every 3 batches across epochs, 2 batches",
        ),
        (
            {"max_epochs": -1, "max_steps": 3, "val_check_interval": "2 steps"},
            "trains epochs without end of 4 batches, 3 optimizer steps in all",
            "validates every 2 optimizer steps, 2 batches",
        ),
        (
            {"max_time": "2 h", "val_check_interval": "8 samples"},
            "trains 2 epochs of 4 batches, 8 optimizer steps in all, for at most 2:00:00",
            "validates every 8 samples, 2 batches",
        ),
        (
            {"val_check_interval": "30 min"},
            "trains 2 epochs of 4 batches, 8 optimizer steps in all",
            "validates every 0:30:00, 2 batches",
        ),
        (
            {"limit_val_batches": 0},
            "trains 2 epochs of 4 batches, 8 optimizer steps in all",
            "validates never",
        ),
        (
            {"val_check_interval": 0.5, "check_val_every_n_epoch": 3},
            "trains 2 epochs of 4 batches, 8 optimizer steps in all",
            "validates every 2 batches in one of 3 epochs, 2 batches",
        ),
    ],
)
def test_a_running_fit_says_what_it_will_do_when(options, training, validation):
    assert outline(**options) == [training, validation, NEVER_LOGS]


def test_a_stream_has_no_known_number_of_batches():
    assert outline(DataLoader(Stream(), batch_size=4))[0] == "trains 2 epochs of batches without a known number"


def test_where_values_go():
    class Board(Logger):
        pass

    assert outline(logger=[Board(), Board()], log_every_n_steps=1)[2] == (
        "logs every optimizer step and at the end of each epoch, to Board, Board"
    )
    assert outline(log_every_n_steps=0)[2] == "logs at the end of each epoch, to the history alone"
    assert outline(barebones=True)[2] == "logs nothing"


def test_a_callback_may_say_what_it_will_do():
    class Says(Notes):
        def outline(self, trainer):
            return f"rests after {trainer.max_epochs} epochs"

    says = Says()
    outline(callbacks=[says])
    assert says.lines[3:] == ["rests after 2 epochs"]


def test_a_fit_that_goes_on_says_from_where():
    trainer = Trainer(max_epochs=1)
    trainer.fit(TinyModule())
    trainer.save_checkpoint("run.ckpt")
    notes = Notes()
    Trainer(max_epochs=2, callbacks=[notes]).fit(TinyModule(), ckpt_path="run.ckpt")
    assert (
        notes.lines[0] == "trains 2 epochs of 4 batches, 8 optimizer steps in all; goes on after 4 optimizer steps, from run.ckpt"
    )


def test_there_is_no_outline_without_a_fit():
    with pytest.raises(RuntimeError) as caught:
        Trainer().outline()
    assert str(caught.value) == ("trainer.outline() is of a running fit, from on_train_start on; trainer.plan(module) needs none")
