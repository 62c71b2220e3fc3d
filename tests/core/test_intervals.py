"""Intervals with a unit: what each unit means to a run, and what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from leyden import Callback, Trainer
from leyden.intervals import Interval, parse_interval
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")


UNITS = "'steps', 'batches', 'epochs', 'samples', 's', 'min', 'h', 'd'"


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [
        ("500 steps", 500, "step"),
        ("1 step", 1, "step"),
        ("3 batches", 3, "batch"),
        ("1batch", 1, "batch"),
        ("2 epochs", 2, "epoch"),
        ("2ep", 2, "epoch"),
        ("1e6 steps", 1_000_000, "step"),
        ("90 s", 90, "second"),
        ("30 min", 1800, "second"),
        ("1.5 h", 5400, "second"),
        ("2 days", 172_800, "second"),
        ("  7 Epochs ", 7, "epoch"),
    ],
)
def test_an_interval_is_a_number_and_a_unit(text, count, unit):
    assert parse_interval(text, "every") == Interval(count, unit)


@pytest.mark.parametrize(
    ("text", "units", "message"),
    [
        ("often", ("step", "epoch"), "Trainer(every='often'): expected a number and a unit, such as '500 steps'"),
        ("5", ("second",), "Trainer(every='5'): expected a number and a unit, such as '30 min'"),
        ("-5 steps", ("step",), "Trainer(every='-5 steps'): expected a number and a unit, such as '500 steps'"),
        ("", ("epoch",), "Trainer(every=''): expected a number and a unit, such as '2 epochs'"),
        ("5 stps", ("step",), "Trainer(every='5 stps'): there is no unit 'stps'; did you mean 'steps'? Units: 'steps'"),
        ("5 epochs", ("step",), "Trainer(every='5 epochs'): it cannot be given in epochs, only in 'step'"),
        ("30 min", ("step", "epoch"), "Trainer(every='30 min'): it cannot be given in seconds, only in 'step', 'epoch'"),
        ("0 steps", ("step",), "Trainer(every='0 steps'): expected a number above 0, whole but for times"),
        ("1.5 epochs", ("epoch",), "Trainer(every='1.5 epochs'): expected a number above 0, whole but for times"),
    ],
)
def test_what_is_no_interval_is_refused(text, units, message):
    with pytest.raises(ValueError) as caught:
        parse_interval(text, "every", units)
    assert str(caught.value) == message


# ---- what each argument does with it ----


class Validations(Callback):
    def __init__(self):
        self.seen = []

    def on_validation_start(self, trainer, module):
        self.seen.append((trainer.current_epoch, trainer.progress.total_batches, trainer.global_step))


def validations(**options):
    """Four batches an epoch; (epoch, batches, steps) at each validation."""
    callback = Validations()
    Trainer(**{"max_epochs": 3, "num_sanity_val_steps": 0, "callbacks": [callback], **options}).fit(TinyModule())
    return callback.seen


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"val_check_interval": "5 steps"}, [(1, 5, 5), (2, 10, 10)]),
        ({"val_check_interval": "3 steps", "accumulate_grad_batches": 2}, [(1, 6, 3), (2, 12, 6)]),
        ({"val_check_interval": "5 batches", "accumulate_grad_batches": 2}, [(1, 5, 2), (2, 10, 5)]),
        ({"val_check_interval": "2 epochs"}, [(1, 8, 8)]),
        ({"val_check_interval": "0.000001 s"}, [(index // 4, index + 1, index + 1) for index in range(12)]),
        ({"val_check_interval": "1 h"}, []),
        ({"check_val_every_n_epoch": "3 epochs"}, [(2, 12, 12)]),
        ({"val_check_interval": "20 samples"}, [(1, 5, 5), (2, 10, 10)]),
        ({"val_check_interval": "1e1 samples", "limit_train_batches": 3}, [(0, 3, 3), (1, 5, 5), (2, 8, 8)]),
    ],
)
def test_validation_by_an_interval_with_a_unit(options, seen):
    assert validations(**options) == seen


@pytest.mark.parametrize("batches", [[2, 3, 1, 2], [5, 3]])
def test_samples_are_counted_where_no_sampler_says_how_many_a_batch_has(batches):
    callback = Validations()
    data = [(torch.ones(size, 8), torch.ones(size).long()) for size in batches]
    trainer = Trainer(max_epochs=2, num_sanity_val_steps=0, callbacks=[callback], val_check_interval="8 samples")
    history = trainer.fit(TinyModule(), data)
    assert [entry[1] for entry in callback.seen] == [len(batches), 2 * len(batches)]
    assert trainer.progress.samples == 16
    assert history.records[-1].samples == 16


def test_a_plan_knows_validations_by_samples():
    options = {"max_epochs": 3, "num_sanity_val_steps": 0, "val_check_interval": "20 samples"}
    assert Trainer(**options).plan(TinyModule()).validations == [seen[2] for seen in validations(**options)] == [5, 10]


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"log_every_n_steps": "20 steps"}, "log_every_n_steps", 20),
        ({"reload_dataloaders_every_n_epochs": "2 epochs"}, "reload_dataloaders_every_n_epochs", 2),
        ({"max_time": "90 min"}, "max_time", timedelta(minutes=90)),
    ],
)
def test_an_argument_given_with_its_unit_is_the_plain_number(options, name, value):
    setting = getattr(Trainer(**options), name)
    assert setting == value
    assert type(setting) is type(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"log_every_n_steps": "2 epochs"},
            "Trainer(log_every_n_steps='2 epochs'): it cannot be given in epochs, only in 'step'",
        ),
        ({"val_check_interval": "soon"}, "Trainer(val_check_interval='soon'): expected a number and a unit, such as '500 steps'"),
        (
            {"check_val_every_n_epoch": "2 steps"},
            "Trainer(check_val_every_n_epoch='2 steps'): it cannot be given in steps, only in 'epoch'",
        ),
        ({"max_time": "2 epochs"}, "Trainer(max_time='2 epochs'): it cannot be given in epochs, only in 'second'"),
    ],
)
def test_a_unit_that_makes_no_sense_for_an_argument_is_refused_before_training(options, message):
    with pytest.raises(ValueError) as caught:
        Trainer(**options)
    assert str(caught.value) == message
