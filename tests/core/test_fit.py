"""How far a fit goes, when it validates, and what it leaves as it found it."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pytest
import torch
from leyden import Callback, DataModule, Logger, Module, Trainer, seed_everything
from leyden.messages import LeydenWarning
from leyden.testing import RandomData, TinyModule
from torch import nn
from torch.utils.data import DataLoader

pytestmark = pytest.mark.usefixtures("core_alone")


class Counts(Callback):
    """Notes at which (epoch, batch) training and validation batches ran."""

    def __init__(self):
        self.trained, self.validated, self.validations = [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.trained.append((trainer.current_epoch, batch_idx))

    def on_validation_start(self, trainer, module):
        if not trainer.sanity_checking:
            self.validations.append((trainer.current_epoch, len(self.trained)))

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        self.validated.append(batch_idx)


def fit(module=None, callbacks=(), train=None, val=None, **options):
    """Four training batches an epoch and two validation batches, if nothing else is given."""
    counts = Counts()
    trainer = Trainer(**{"max_epochs": 1, "num_sanity_val_steps": 0, "callbacks": [counts, *callbacks], **options})
    trainer.fit(module or TinyModule(), train, val)
    return trainer, counts


# ---- limits ----


@pytest.mark.parametrize(("limit", "batches"), [(0, 0), (1, 1), (3, 3), (9, 4), (0.0, 0), (0.5, 2), (0.99, 3), (1.0, 4)])
def test_limit_train_batches(limit, batches):
    trainer, counts = fit(limit_train_batches=limit, max_epochs=1)
    assert len(counts.trained) == trainer.num_training_batches == batches


def test_limit_train_batches_0_trains_no_epoch():
    trainer, counts = fit(limit_train_batches=0, max_epochs=-1)
    assert (trainer.current_epoch, counts.validations) == (0, [])


@pytest.mark.parametrize(("limit", "batches"), [(0, 0), (1, 1), (9, 2), (0.5, 1), (1.0, 2)])
def test_limit_val_batches(limit, batches):
    trainer, counts = fit(limit_val_batches=limit)
    assert len(counts.validated) == sum(trainer.num_val_batches) == batches


@pytest.mark.parametrize(("fraction", "batches"), [(0.29, 29), (0.57, 57), (0.58, 58), (0.999, 99)])
def test_a_fraction_of_the_batches_is_what_it_says(fraction, batches):
    trainer = Trainer(max_epochs=1, limit_train_batches=fraction, limit_val_batches=fraction, val_check_interval=0.57)
    batches_given = [(torch.zeros(1, 8), torch.zeros(1, dtype=torch.int64))] * 100
    trainer.fit(TinyModule(), batches_given, batches_given)
    assert (trainer.global_step, trainer.num_val_batches) == (batches, [batches])
    assert trainer.fit_loop.validate_every == int(batches * 57 / 100)


def test_the_smallest_fraction_that_is_named_is_large_enough():
    with pytest.raises(ValueError, match=r"pass at least 0\.333334, or") as caught:
        fit(train=[(torch.zeros(1, 8), torch.zeros(1, dtype=torch.int64))] * 3, limit_train_batches=0.2)
    named = float(str(caught.value).partition("at least ")[2].partition(",")[0])
    assert fit(train=[(torch.zeros(1, 8), torch.zeros(1, dtype=torch.int64))] * 3, limit_train_batches=named)[0].global_step == 1


def test_a_fraction_of_so_few_batches_that_none_is_left_is_an_error():
    with pytest.raises(ValueError) as caught:
        fit(limit_train_batches=0.2)
    assert str(caught.value) == (
        "limit_train_batches=0.2: a fraction of 0.2 of the 4 batches of TinyModule.train_dataloader() is none; "
        "pass at least 0.25, or a whole number of batches"
    )


def test_a_fraction_of_an_unknown_length_is_an_error():
    with pytest.raises(ValueError) as caught:
        fit(train=iter([]), limit_train_batches=0.5)
    assert str(caught.value) == (
        "limit_train_batches=0.5: train_dataloaders does not say how many batches it has; pass a whole number of batches"
    )


@pytest.mark.parametrize(
    ("options", "epochs", "steps"),
    [
        ({"max_epochs": 3}, 3, 12),
        ({"max_epochs": 0}, 0, 0),
        ({"max_epochs": -1, "max_steps": 9}, 3, 9),
        ({"max_epochs": None, "max_steps": 9}, 3, 9),
        ({"max_epochs": 1, "max_steps": 9}, 1, 4),
        ({"max_epochs": 5, "max_steps": 0}, 0, 0),
        ({"max_epochs": 5, "max_steps": 8}, 2, 8),
        ({"max_epochs": 5, "max_steps": 3, "accumulate_grad_batches": 2}, 2, 3),
    ],
)
def test_the_end_of_training(options, epochs, steps):
    trainer, _ = fit(**options)
    assert (trainer.current_epoch, trainer.global_step) == (epochs, steps)


def test_current_epoch_is_the_number_of_epochs_after_a_fit():
    trainer, _ = fit(max_epochs=3)
    assert trainer.current_epoch == 3


def test_neither_max_epochs_nor_max_steps_is_a_thousand_epochs_and_says_so(capsys):
    class Stops(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            trainer.should_stop = True

    trainer, _ = fit(callbacks=[Stops()], max_epochs=None)
    assert trainer.max_epochs == 1000
    assert (
        capsys.readouterr().err == "leyden: neither max_epochs nor max_steps is given: training stops after 1000 epochs [LY006]\n"
    )


@pytest.mark.parametrize("max_time", ["00:00:00:00", timedelta(), {"seconds": 0}], ids=["str", "timedelta", "dict"])
def test_max_time_stops_at_the_next_batch(max_time):
    _, counts = fit(max_epochs=None, max_time=max_time)
    assert counts.trained == []


def test_max_time_heeds_min_steps():
    trainer, _ = fit(max_epochs=-1, max_time=timedelta(), min_steps=6)
    assert trainer.global_step == 6


class StopsAt(Callback):
    def __init__(self, epoch, batch_idx):
        self.place = (epoch, batch_idx)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.place:
            trainer.should_stop = True


@pytest.mark.parametrize(
    ("minima", "steps"),
    [({}, 2), ({"min_steps": 3}, 3), ({"min_steps": 6}, 6), ({"min_epochs": 1}, 4), ({"min_epochs": 2}, 8),
     ({"min_epochs": 1, "min_steps": 6}, 6), ({"min_epochs": 2, "min_steps": 3}, 8)],
)  # fmt: skip
def test_should_stop_is_heeded_once_the_minima_are_reached(minima, steps):
    trainer, _ = fit(callbacks=[StopsAt(0, 1)], max_epochs=5, **minima)
    assert trainer.global_step == steps


def test_should_stop_in_an_epochs_end_ends_training():
    class Stops(Callback):
        def on_train_epoch_end(self, trainer, module):
            trainer.should_stop = True

    trainer, _ = fit(callbacks=[Stops()], max_epochs=5)
    assert trainer.current_epoch == 1


def test_stopping_inside_an_epoch_validates_once_more_and_ends_the_epoch():
    ended = []

    class Ends(Callback):
        def on_train_epoch_end(self, trainer, module):
            ended.append(trainer.current_epoch)

    _, counts = fit(callbacks=[StopsAt(0, 1), Ends()], max_epochs=5)
    assert counts.validations == [(0, 2)]
    assert ended == [0]


def test_minus_one_of_on_train_batch_start_skips_the_rest_of_the_epoch():
    class Skips(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            return -1 if batch_idx == 2 else None

    trainer, counts = fit(callbacks=[Skips()], max_epochs=2)
    assert trainer.global_step == 4
    assert counts.trained == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_an_accumulation_window_cut_short_by_a_skipped_epoch_is_stepped():
    class Skips(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            return -1 if batch_idx == 3 else None

    trainer, _ = fit(callbacks=[Skips()], accumulate_grad_batches=2)
    assert trainer.global_step == 2


# ---- validation ----


@pytest.mark.parametrize(
    ("options", "validations"),
    [
        ({}, [(0, 4), (1, 8)]),
        ({"val_check_interval": 1.0}, [(0, 4), (1, 8)]),
        ({"val_check_interval": 0.5}, [(0, 2), (0, 4), (1, 6), (1, 8)]),
        ({"val_check_interval": 0.1}, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (1, 7), (1, 8)]),
        ({"val_check_interval": 1}, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (1, 7), (1, 8)]),
        ({"val_check_interval": 3}, [(0, 3), (1, 7)]),
        ({"val_check_interval": 4}, [(0, 4), (1, 8)]),
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, [(0, 3), (1, 6)]),
        ({"val_check_interval": 6, "check_val_every_n_epoch": None}, [(1, 6)]),
        ({"check_val_every_n_epoch": 2}, [(1, 8)]),
        ({"check_val_every_n_epoch": 2, "val_check_interval": 2}, [(1, 6), (1, 8)]),
        ({"check_val_every_n_epoch": 3}, []),
        ({"val_check_interval": timedelta()}, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (1, 7), (1, 8)]),
        ({"val_check_interval": "01:00:00:00"}, []),
        ({"val_check_interval": {"hours": 1}}, []),
        ({"limit_val_batches": 0}, []),
    ],
)
def test_validation_is_due(options, validations):
    _, counts = fit(max_epochs=2, **options)
    assert counts.validations == validations


def test_a_val_check_interval_beyond_the_epoch_is_an_error():
    with pytest.raises(ValueError) as caught:
        fit(val_check_interval=5)
    assert str(caught.value) == (
        "val_check_interval=5 is more than the 4 batches of an epoch; use at most 4, or check_val_every_n_epoch=None to count "
        "across epochs"
    )


def test_a_fraction_as_val_check_interval_needs_a_known_length():
    class Stream:
        def __iter__(self):
            return iter([(torch.zeros(1, 8), torch.zeros(1, dtype=torch.long))])

    with pytest.raises(ValueError) as caught:
        fit(train=Stream(), val_check_interval=0.5)
    assert str(caught.value) == (
        "val_check_interval=0.5 is a fraction, but the training loader does not say how many batches it has; "
        "pass a whole number of batches, or 1.0 for the end of each epoch"
    )


def test_a_module_without_a_validation_step_is_not_validated():
    class Trains(TinyModule):
        validation_step = Module.validation_step

        def val_dataloader(self):
            raise AssertionError("there is nothing to validate with")

    _, counts = fit(Trains(), num_sanity_val_steps=2)
    assert counts.validations == []


class Hears(Callback):
    """Notes the hooks of the sanity check."""

    def __init__(self):
        self.heard = []

    def on_sanity_check_start(self, trainer, module):
        self.heard.append(("start", trainer.enable_validation))

    def on_sanity_check_end(self, trainer, module):
        self.heard.append(("end", trainer.enable_validation))


class NoLoader(TinyModule):
    val_dataloader = Module.val_dataloader


class NoStep(TinyModule):
    validation_step = Module.validation_step


@pytest.mark.parametrize(
    ("module", "options"),
    [(NoLoader, {}), (NoStep, {}), (TinyModule, {"limit_val_batches": 0}), (TinyModule, {"num_sanity_val_steps": 0})],
    ids=["no loader", "no step", "no batch", "no check"],
)
def test_without_a_sanity_check_its_hooks_are_not_called(module, options):
    hears = Hears()
    trainer, _ = fit(module(), [hears], **{"num_sanity_val_steps": 2, **options})
    assert hears.heard == []
    assert trainer.enable_validation is (options == {"num_sanity_val_steps": 0})


def test_whoever_gives_the_validation_loaders_has_the_sanity_check_run():
    class Data(DataModule):
        def val_dataloader(self):
            return DataLoader(RandomData(4))

    for options in ({"val_dataloaders": DataLoader(RandomData(4))}, {"datamodule": Data()}):
        hears = Hears()
        Trainer(max_steps=1, callbacks=[hears]).fit(NoLoader(), **options)
        assert hears.heard == [("start", True), ("end", True)]


@pytest.mark.parametrize(("steps", "batches"), [(0, 0), (1, 1), (None, 2), (5, 2), (-1, 2)])
def test_num_sanity_val_steps(steps, batches):
    seen = []

    class Notes(Callback):
        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            if trainer.sanity_checking:
                seen.append(batch_idx)

    fit(callbacks=[Notes()], num_sanity_val_steps=steps)
    assert len(seen) == batches


def test_the_sanity_check_leaves_random_numbers_as_they_were():
    class Draws(TinyModule):
        def validation_step(self, batch, batch_idx):
            torch.rand(3), np.random.rand(3), random.random()

        def on_train_start(self):
            self.drawn = torch.rand(1).item(), np.random.rand(), random.random()

    drawn = []
    for steps in (0, 2):
        module = Draws()
        seed_everything(5)
        fit(module, num_sanity_val_steps=steps, val=DataLoader(RandomData(8), batch_size=2, shuffle=True))
        drawn.append(module.drawn)
    assert drawn[0] == drawn[1]


def test_validation_inside_fit_has_no_gradients_but_no_inference_tensors():
    seen = []

    class Looks(TinyModule):
        def validation_step(self, batch, batch_idx):
            seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), self.training))

    fit(Looks(), limit_val_batches=1)
    assert seen == [(False, False, False)]


def test_stage_and_flags_say_what_runs():
    seen = []

    def now(trainer):
        return trainer.stage, trainer.training, trainer.validating, trainer.sanity_checking, trainer.running

    class Looks(TinyModule):
        def training_step(self, batch, batch_idx):
            seen.append(now(self.trainer))
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            seen.append(now(self.trainer))

    trainer, _ = fit(Looks(), num_sanity_val_steps=1, limit_train_batches=1, limit_val_batches=1)
    assert seen == [
        ("fit", False, False, True, True),
        ("fit", True, False, False, True),
        ("fit", True, True, False, True),
    ]
    assert now(trainer) == (None, False, False, False, False)


# ---- runs of a special kind ----


@pytest.mark.parametrize(("given", "batches"), [(True, 1), (3, 3), (1, 1)])
def test_fast_dev_run_runs_a_few_batches_once_and_writes_nothing(given, batches, tmp_path):
    class Writes(Logger):
        def log_metrics(self, metrics, step):
            raise AssertionError("a fast_dev_run has no logger")

    trainer, counts = fit(
        fast_dev_run=given, max_epochs=7, logger=Writes(), check_val_every_n_epoch=5, val_check_interval=2, log_every_n_steps=1
    )
    assert len(counts.trained) == trainer.global_step == batches
    assert counts.validations == [(0, batches)]
    assert trainer.fast_dev_run == batches
    assert trainer.loggers == []
    assert len(trainer.test(TinyModule(), verbose=False)) == 1
    assert trainer.num_test_batches == [min(batches, 2)]


def test_fast_dev_run_false_is_an_ordinary_run():
    trainer, counts = fit(fast_dev_run=False)
    assert (len(counts.trained), trainer.fast_dev_run) == (4, 0)


def test_barebones_trains_the_same_without_anything_around_it():
    ours, bare = TinyModule(), TinyModule()
    bare.load_state_dict(ours.state_dict())
    fit(ours)
    trainer, counts = fit(bare, barebones=True, num_sanity_val_steps=None)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), bare.parameters(), strict=True))
    assert len(counts.validated) == 2
    assert trainer.loggers == []


@pytest.mark.parametrize("argument", ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"])
def test_barebones_refuses_what_it_does_not_have(argument):
    with pytest.raises(ValueError) as caught:
        Trainer(barebones=True, **{argument: True})
    assert str(caught.value) == f"Trainer(barebones=True) has none of that: {argument}=True cannot be given with it"


# ---- what a run leaves as it found it ----


class Frozen(TinyModule):
    """Has a part that stays in eval mode during training."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).eval()
        self.fails = False

    def modes(self):
        return {name: child.training for name, child in self.named_modules()}

    def training_step(self, batch, batch_idx):
        self.seen = self.modes()
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        assert not any(self.modes().values())
        if self.fails:
            raise RuntimeError("the user's own")


def test_validation_puts_back_the_mode_of_every_submodule():
    module = Frozen()
    before = module.modes()
    fit(module, val_check_interval=1)
    assert module.seen == module.modes() == before
    assert not before["frozen.1"]


def test_the_modes_are_put_back_when_validation_fails():
    module = Frozen()
    before = module.modes()
    module.fails = True
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(module)
    assert module.modes() == before


def switches():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.is_anomaly_enabled(),
        torch.is_grad_enabled(),
    )


@pytest.mark.parametrize("fails", [False, True])
def test_global_switches_are_set_during_the_run_only(fails):
    class Looks(TinyModule):
        def training_step(self, batch, batch_idx):
            self.seen = switches()
            if fails:
                raise RuntimeError("the user's own")
            return super().training_step(batch, batch_idx)

    module, before = Looks(), switches()
    try:
        fit(module, deterministic="warn", benchmark=True, detect_anomaly=True)
    except RuntimeError:
        assert fails
    assert module.seen == (True, True, True, True, True)
    assert switches() == before


def test_deterministic_refuses_and_warn_names():
    class Looks(TinyModule):
        def training_step(self, batch, batch_idx):
            self.seen = switches()[:2]
            return super().training_step(batch, batch_idx)

    module = Looks()
    for given, expected in ((True, (True, False)), ("warn", (True, True)), (False, (False, False)), (None, (False, False))):
        fit(module, deterministic=given)
        assert module.seen == expected


# ---- one Trainer, several fits ----


def parameters(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_second_fit_trains_again_from_the_start():
    module = TinyModule()
    trainer, counts = fit(module, max_epochs=2)
    first = parameters(module).clone()
    trainer.fit(module)
    assert (trainer.current_epoch, trainer.global_step, len(counts.trained)) == (2, 8, 16)
    assert not torch.equal(parameters(module), first)


def test_two_fits_with_the_same_seed_give_the_same():
    results = []
    trainer = Trainer(max_epochs=2)
    for _ in range(2):
        seed_everything(3)
        module = TinyModule()
        trainer.fit(module, DataLoader(RandomData(16), batch_size=4, shuffle=True))
        results.append((parameters(module), trainer.callback_metrics["train_loss"]))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_another_module_can_be_fitted_by_the_same_trainer():
    trainer, _ = fit(TinyModule())
    other = TinyModule()
    before = parameters(other).clone()
    trainer.fit(other)
    assert trainer.module is other
    assert not torch.equal(parameters(other), before)


def test_a_fit_after_a_failed_one_works():
    class Fails(TinyModule):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("the user's own")

    trainer = Trainer(max_epochs=1)
    with pytest.raises(RuntimeError, match="the user's own"):
        trainer.fit(Fails())
    trainer.fit(TinyModule())
    assert trainer.global_step == 4


def test_should_stop_of_one_fit_does_not_stop_the_next():
    stops = StopsAt(0, 0)
    trainer, _ = fit(callbacks=[stops], max_epochs=2)
    stops.place = None
    trainer.fit(TinyModule())
    assert trainer.current_epoch == 2


def test_callback_metrics_start_anew_with_each_run():
    trainer, _ = fit(TinyModule())
    trainer.test(TinyModule(), verbose=False)
    assert set(trainer.callback_metrics) == {"test_loss", "test_acc"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_epochs": 3}, 12),
        ({"max_epochs": 3, "accumulate_grad_batches": 3}, 6),
        ({"max_epochs": 3, "max_steps": 5}, 5),
        ({"max_epochs": -1}, float("inf")),
        ({"max_epochs": -1, "max_steps": 7}, 7),
        ({"max_epochs": 3, "limit_train_batches": 0.5}, 6),
    ],
)
def test_estimated_stepping_batches_can_be_asked_for_in_configure_optimizers(options, expected):
    class Asks(TinyModule):
        def configure_optimizers(self):
            self.estimated = self.trainer.estimated_stepping_batches
            self.trainer.should_stop = True
            return super().configure_optimizers()

    module = Asks()
    fit(module, **options)
    assert module.estimated == expected


def test_an_epoch_without_a_batch_is_said():
    class SkipsAll(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            return -1

    with pytest.warns(LeydenWarning) as caught:
        fit(callbacks=[SkipsAll()])
    assert [str(warning.message) for warning in caught] == ["epoch 0 trained on no batch"]


# ---- step functions ----


def test_a_training_step_may_leave_out_batch_idx():
    class Short(TinyModule):
        def training_step(self, batch):
            return self(batch[0]).mean()

        def validation_step(self, batch):
            self.log("seen", 1.0)

    trainer, _ = fit(Short())
    assert trainer.global_step == 4
    assert trainer.callback_metrics["seen"] == 1.0


def test_a_training_step_may_take_any_arguments():
    class Any(TinyModule):
        def training_step(self, *args):
            return super().training_step(*args)

    trainer, _ = fit(Any())
    assert trainer.global_step == 4


def test_a_step_with_an_argument_too_many_is_an_error():
    class Long(TinyModule):
        def training_step(self, batch, batch_idx, hiddens):
            pass

    with pytest.raises(TypeError) as caught:
        fit(Long())
    assert str(caught.value) == (
        "Long.training_step(batch, batch_idx, hiddens) does not fit: write training_step(self, batch, batch_idx)"
    )


def test_a_validation_step_that_needs_dataloader_idx_is_told_that_there_is_one_loader():
    class Long(TinyModule):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            pass

    with pytest.raises(TypeError) as caught:
        fit(Long())
    assert str(caught.value) == (
        "Long.validation_step(batch, batch_idx, dataloader_idx) does not fit: write validation_step(self, batch, batch_idx); "
        "there is one loader, so give dataloader_idx a default"
    )


# ---- a fit that trains nothing ----


class Forgets(TinyModule):
    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)


def test_a_step_that_forgot_to_return_the_loss_is_told_once_when_the_first_epoch_ends(capsys):
    said = []

    class Tells(Forgets):
        def on_train_epoch_end(self):
            said.append(capsys.readouterr().err)

    Trainer(max_epochs=3).fit(Tells())
    assert said == [
        "leyden: the fit made no optimizer step in 4 batches: Tells.training_step returned None for each; end it with "
        "`return loss` [LY037]\n", "", "",
    ]  # fmt: skip
    assert capsys.readouterr().err == ""


def test_a_window_that_is_longer_than_an_epoch_is_no_fit_that_trains_nothing(capsys):
    trainer = Trainer(max_epochs=3, accumulate_grad_batches=6, carry_accumulation=True)
    trainer.fit(TinyModule())
    assert (trainer.global_step, capsys.readouterr().err) == (2, "")


def test_a_fit_with_such_windows_that_trains_nothing_is_told_when_it_ends(capsys):
    Trainer(max_epochs=2, accumulate_grad_batches=6, carry_accumulation=True).fit(Forgets())
    assert "the fit made no optimizer step in 8 batches: Forgets" in capsys.readouterr().err


def test_manual_optimization_that_steps_nothing_is_told(capsys):
    class Manual(Forgets):
        automatic_optimization = False

    Trainer(max_epochs=1).fit(Manual())
    assert "no optimizer step in 4 batches: in manual optimization, step an optimizer of self" in capsys.readouterr().err


def test_a_loop_of_ones_own_that_steps_nothing_is_told(capsys):
    for _ in Trainer(max_epochs=1).batches(TinyModule()):
        pass
    assert "no optimizer step in 4 batches: call trainer.step(loss) with the loss of each" in capsys.readouterr().err


@pytest.mark.parametrize(("returned", "said"), [(None, 1), ([], 0)], ids=["None", "an empty list"])
def test_configure_optimizers_that_forgot_to_return_is_told(returned, said, capsys):
    module = TinyModule()
    module.configure_optimizers = lambda: returned
    Trainer(max_epochs=1).fit(module)
    assert (
        capsys.readouterr().err.count(
            "TinyModule.configure_optimizers returned None, so that nothing is updated; end it with `return optimizer`, or with "
            "`return []` [LY038]"
        )
        == said
    )
