"""Promises about whole runs: what they leave behind, how they are interrupted, what comes before training, the open loop."""

from __future__ import annotations

import ast
import gc
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path

import leyden.loops.fit
import numpy as np
import pytest
import torch
from leyden import Callback, DataModule, Logger, Trainer
from leyden.seeding import derived_seed
from leyden.testing import RandomData, TinyDataModule, TinyModule
from torch import nn
from torch.utils.data import DataLoader

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Keeps(Logger):
    def __init__(self):
        self.records, self.status = [], None

    def log_metrics(self, metrics, step):
        self.records.append((step, dict(metrics)))

    def finalize(self, status):
        self.status = status


# ---- 16: leaks ----


def live_tensors():
    gc.collect()
    return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())


def test_promise_16_twenty_fits_with_fresh_trainers_leave_no_tensor_thread_or_process():
    def run():
        trainer = Trainer(max_epochs=2, log_every_n_steps=1, callbacks=[Callback()], **QUIET)
        trainer.fit(TinyModule(), datamodule=TinyDataModule())

    run()
    before = live_tensors(), threading.active_count(), multiprocessing.active_children()
    for _ in range(20):
        run()
    assert (live_tensors(), threading.active_count(), multiprocessing.active_children()) == before


def test_promise_16_the_number_of_live_tensors_is_the_same_after_every_epoch():
    counts = []

    class Looks(Callback):
        def on_train_epoch_start(self, trainer, module):
            counts.append(live_tensors())

    Trainer(max_epochs=12, log_every_n_steps=3, callbacks=[Looks()], **QUIET).fit(TinyModule())
    assert len(set(counts[2:])) == 1


# ---- 26: records ----


def test_promise_26_steps_never_go_backwards_also_over_fits_evaluations_and_validations_within():
    keeps = Keeps()
    trainer = Trainer(max_epochs=2, log_every_n_steps=1, val_check_interval=2, **{**QUIET, "logger": keeps})
    module = TinyModule()
    trainer.fit(module)
    trainer.validate(module, verbose=False)
    trainer.test(module, verbose=False)
    steps = [step for step, _ in keeps.records]
    assert steps == sorted(steps)
    assert [step for step, metrics in keeps.records if "train_loss" in metrics] == list(range(8))
    assert all("epoch" in metrics for _, metrics in keeps.records)


# ---- 33: Ctrl-C ----


class Presses(TinyModule):
    """Presses Ctrl-C inside a step, once or twice."""

    def __init__(self, times=1, stage="training_step"):
        super().__init__()
        self.times, self.place, self.steps_ended = times, stage, []

    def press(self, place):
        if place == self.place:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 2:
            self.press("training_step")
        return loss

    def validation_step(self, batch, batch_idx):
        self.press("validation_step")

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.steps_ended.append(self.global_step)


@pytest.fixture
def ctrl_c(plain_handlers):
    """Python's own handler, which the run puts back."""
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_promise_33_the_first_ctrl_c_finishes_the_step_closes_the_loggers_and_raises(capsys):
    keeps, module = Keeps(), Presses()
    trainer = Trainer(max_epochs=5, **{**QUIET, "logger": keeps})
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(module)
    assert module.steps_ended == [1, 2, 3]
    assert keeps.status == "interrupted"
    assert capsys.readouterr().err == (
        "leyden: interrupted: the run stops after this batch; interrupt once more to stop at once [LY008]\n"
    )


@pytest.mark.usefixtures("ctrl_c")
def test_promise_33_fit_can_return_instead_so_that_the_code_after_it_runs():
    module = Presses()
    trainer = Trainer(max_epochs=5, log_every_n_steps=1, on_interrupt="return", **QUIET)
    history = trainer.fit(module)
    assert trainer.interrupted
    assert trainer.global_step == 3
    assert len(history["train_loss"]) == 3
    module.times = 0
    trainer.fit(module)
    assert (trainer.interrupted, trainer.current_epoch) == (False, 5)


@pytest.mark.usefixtures("ctrl_c")
def test_promise_33_the_second_ctrl_c_stops_at_once():
    module = Presses(times=2)
    with pytest.raises(KeyboardInterrupt):
        Trainer(max_epochs=5, **QUIET).fit(module)
    assert module.steps_ended == [1, 2]


@pytest.mark.usefixtures("ctrl_c")
def test_promise_33_holds_in_validation_too():
    module = Presses(stage="validation_step")
    with pytest.raises(KeyboardInterrupt):
        Trainer(max_epochs=5, num_sanity_val_steps=0, **QUIET).fit(module)
    assert module.steps_ended == [1, 2, 3, 4]


# ---- 35 and 36: what comes before training ----


def test_promise_35_a_module_that_is_all_in_eval_mode_is_trained_and_that_is_said_once(capsys):
    modes = []

    class Looks(TinyModule):
        def training_step(self, batch, batch_idx):
            modes.append(self.layer.training)
            return super().training_step(batch, batch_idx)

    Trainer(max_epochs=2, **QUIET).fit(Looks().eval())
    assert set(modes) == {True}
    assert capsys.readouterr().err == "leyden: Looks was in eval mode; it trains in train mode (module.train()) [LY005]\n"


def test_promise_35_a_frozen_part_stays_in_eval_mode_and_nothing_is_said(capsys):
    class Frozen(TinyModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Dropout().eval()

    module = Frozen()
    Trainer(max_epochs=1, **QUIET).fit(module)
    assert (module.layer.training, module.backbone.training) == (True, False)
    assert capsys.readouterr().err == ""


class Observed(TinyModule):
    """Two validation loaders, random numbers in validation, and something that counts in every hook of it."""

    def validation_step(self, batch, batch_idx, dataloader_idx):
        torch.rand(2), np.random.rand(2), random.random()
        self.log("val_loss", self(batch[0]).mean() + torch.rand(1).item(), prog_bar=True)

    def val_dataloader(self):
        return [DataLoader(RandomData(8), batch_size=4, shuffle=True) for _ in range(2)]


class Counts(Callback):
    """Keeps state as a monitor does: only of validations that are not a check; and what is known as training starts."""

    def __init__(self):
        self.validations, self.known = 0, None

    def on_train_start(self, trainer, module):
        self.known = {**trainer.callback_metrics, **trainer.logged_metrics, **trainer.progress_bar_metrics}

    def on_validation_end(self, trainer, module):
        self.validations += not trainer.sanity_checking


@pytest.mark.parametrize("steps", [1, 2, -1])
def test_promise_36_with_and_without_the_sanity_check_a_run_is_the_same(steps):
    def run(steps):
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        keeps, counts, module = Keeps(), Counts(), Observed()
        trainer = Trainer(max_epochs=2, num_sanity_val_steps=steps, log_every_n_steps=1, callbacks=[counts],
                          **{**QUIET, "logger": keeps})  # fmt: skip
        trainer.fit(module, DataLoader(RandomData(16), batch_size=4, shuffle=True))
        drawn = torch.rand(1).item(), np.random.rand(), random.random()
        return (
            keeps.records,
            counts.validations,
            counts.known,
            module.layer.weight.tolist(),
            drawn,
            sorted(trainer.callback_metrics),
        )

    assert run(steps) == run(0)


# ---- 39, 40, 42, 43 ----


def test_promise_39_a_second_fit_equals_that_of_a_fresh_trainer():
    def run(trainer):
        torch.manual_seed(2)
        module = TinyModule()
        history = trainer.fit(module, DataLoader(RandomData(16), batch_size=4, shuffle=True))
        return [record.values for record in history.records], module.layer.weight.tolist(), trainer.global_step

    options = {"max_epochs": 2, "log_every_n_steps": 1, **QUIET}
    used = Trainer(**options)
    used.fit(TinyModule())
    assert run(used) == run(Trainer(**options))


def test_promise_40_no_two_seeds_of_a_plan_collide():
    seeds = {
        derived_seed(seed, rank, worker, epoch, purpose)
        for seed in range(4)
        for rank in range(8)
        for worker in range(16)
        for epoch in range(64)
        for purpose in ("loader", "worker", "dropout")
    }
    assert len(seeds) == 4 * 8 * 16 * 64 * 3


def test_promise_42_setup_runs_once_for_each_stage_and_before_the_loaders():
    calls = []

    class Data(TinyDataModule):
        def prepare_data(self):
            calls.append("prepare_data")

        def setup(self, stage):
            calls.append(f"setup {stage}")

        def train_dataloader(self):
            calls.append("train_dataloader")
            return super().train_dataloader()

        def teardown(self, stage):
            calls.append(f"teardown {stage}")

    class Validates(Data):
        val_dataloader = DataModule.val_dataloader

    module, data = TinyModule(), Validates()
    trainer = Trainer(max_epochs=2, limit_val_batches=0, **QUIET)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    trainer.predict(module, datamodule=data)
    assert calls == [
        "prepare_data", "setup fit", "train_dataloader", "teardown fit",
        "prepare_data", "setup test", "teardown test",
        "prepare_data", "setup predict", "teardown predict",
    ]  # fmt: skip


def test_promise_43_one_loader_and_a_list_of_one_give_the_same_keys():
    class Takes(TinyModule):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            super().validation_step(batch, batch_idx)

    loader = DataLoader(RandomData(8), batch_size=4)
    keys = [sorted(Trainer(**QUIET).validate(Takes(), given, verbose=False)[0]) for given in (loader, [loader], {"a": loader})]
    assert keys == [["val_acc", "val_loss"]] * 3


def test_promise_43_the_name_of_each_of_several_loaders_is_in_its_keys():
    class Takes(TinyModule):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            self.log("loss", float(dataloader_idx))

    loader = DataLoader(RandomData(8), batch_size=4)
    results = Trainer(**QUIET).validate(Takes(), {"clean": loader, "noisy": loader}, verbose=False)
    assert results == [{"loss/clean": 0.0}, {"loss/noisy": 1.0}]


def test_promise_43_the_name_is_where_a_template_puts_it():
    class Takes(TinyModule):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            self.log("loss", float(dataloader_idx))
            self.log("all", 1.0, add_dataloader_idx=False)

    loader = DataLoader(RandomData(8), batch_size=4)
    trainer = Trainer(**QUIET, loader_key_template="{loader}-{name}")
    assert trainer.validate(Takes(), {"clean": loader, "noisy": loader}, verbose=False) == [
        {"clean-loss": 0.0, "all": 1.0},
        {"noisy-loss": 1.0, "all": 1.0},
    ]
    [first, _] = trainer.validate(Takes(), [loader, loader], verbose=False)
    assert first == {"dataloader_idx_0-loss": 0.0, "all": 1.0}


def with_names(stage, *, index):
    """A module whose step function notes the names of loaders it is passed."""
    seen = []

    class Named(TinyModule):
        if index:

            def note(self, batch, batch_idx, dataloader_idx, dataloader_name):
                seen.append((batch_idx, dataloader_idx, dataloader_name))

        else:

            def note(self, batch, *, dataloader_name):
                seen.append(dataloader_name)

    setattr(Named, f"{stage}_step", Named.note)
    return Named(), seen


@pytest.mark.parametrize(("run", "stage"), [("validate", "validation"), ("test", "test"), ("predict", "predict")])
def test_promise_43_a_step_that_asks_for_it_is_passed_the_name_of_the_loader(run, stage):
    loader = DataLoader(RandomData(2), batch_size=2)
    options = {} if run == "predict" else {"verbose": False}
    module, seen = with_names(stage, index=True)
    getattr(Trainer(**QUIET), run)(module, {"clean": loader, "noisy": loader}, **options)
    assert seen == [(0, 0, "clean"), (0, 1, "noisy")]
    module, seen = with_names(stage, index=False)
    getattr(Trainer(**QUIET), run)(module, [loader, loader], **options)
    getattr(Trainer(**QUIET), run)(module, {"only": loader}, **options)
    getattr(Trainer(**QUIET), run)(module, loader, **options)
    assert seen == ["dataloader_idx_0", "dataloader_idx_1", "only", "dataloader_idx_0"]


# ---- 63: the loop ----


def test_promise_63_a_loop_of_ones_own_trains_logs_validates_and_saves_as_fit_does(tmp_path):
    class Saves(Callback):
        def __init__(self, path):
            self.path = path

        def on_train_end(self, trainer, module):
            trainer.save_checkpoint(self.path)

    def run(own):
        torch.manual_seed(4)
        module, keeps = TinyModule(), Keeps()
        path = tmp_path / f"{own}.ckpt"
        trainer = Trainer(max_epochs=2, log_every_n_steps=2, accumulate_grad_batches=3, val_check_interval=2,
                          gradient_clip_val=0.1, callbacks=[Saves(path)], **{**QUIET, "logger": keeps})  # fmt: skip
        if own:
            for x, y in trainer.batches(module):
                loss = nn.functional.cross_entropy(module(x), y)
                module.log("train_loss", loss)
                trainer.step(loss)
        else:
            trainer.fit(module)
        saved = torch.load(path, weights_only=True)
        progress = saved["leyden"]["progress"]
        return module.layer.weight.tolist(), keeps.records, keeps.status, trainer.global_step, sorted(saved), progress

    assert run(True) == run(False)


def test_promise_63_a_loop_of_ones_own_goes_on_from_a_checkpoint(tmp_path):
    path = tmp_path / "one.ckpt"

    def run(trainer, module, **options):
        for x, y in trainer.batches(module, **options):
            trainer.step(nn.functional.cross_entropy(module(x), y))

    module = TinyModule()
    first = Trainer(max_epochs=1, **QUIET)
    run(first, module)
    first.save_checkpoint(path)
    second = Trainer(max_epochs=3, **QUIET)
    run(second, TinyModule(), ckpt_path=path)
    assert (second.current_epoch, second.global_step) == (3, 12)


def test_promise_63_the_loop_has_fewer_than_300_lines_and_says_what_it_does():
    source = Path(leyden.loops.fit.__file__).read_text()
    assert len(source.splitlines()) < 300
    undocumented = [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert undocumented == []


# ---- 64: inference tensors ----


def test_promise_64_what_validation_inside_fit_keeps_can_be_trained_on():
    class Remembers(TinyModule):
        def validation_step(self, batch, batch_idx):
            self.mean = self(batch[0]).mean(dim=0)

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss + (self.layer(batch[0]) * self.mean).mean() if hasattr(self, "mean") else loss

    trainer = Trainer(max_epochs=2, **QUIET)
    module = Remembers()
    trainer.fit(module)
    assert not module.mean.is_inference()
    assert trainer.global_step == 8


# ---- 64: tensors kept from evaluations ----

WAY_OUT = (
    "keep value.clone() made after the run, set it anew from .tolist() or numpy, or pass Trainer(inference_mode=False), which "
    "evaluates under torch.no_grad"
)


class KeepsCentres(TinyModule):
    """Keeps what an evaluation made, and trains with it."""

    def __init__(self):
        super().__init__()
        self.centres = []

    def validation_step(self, batch, batch_idx):
        self.centres.append(self(batch[0]).mean(dim=0))

    def predict_step(self, batch, batch_idx):
        return self.validation_step(batch, batch_idx)

    test_step = validation_step

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss + (self(batch[0]) * self.centres[0]).sum() if self.centres else loss


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_promise_64_a_tensor_kept_from_an_evaluation_is_said_to_be_what_training_cannot_use(stage):
    module = KeepsCentres()
    options = {"max_epochs": 1, "num_sanity_val_steps": 0, **QUIET}
    getattr(Trainer(**options), stage)(module, **({} if stage == "predict" else {"verbose": False}))
    with pytest.raises(RuntimeError) as caught:
        Trainer(**options).fit(module)
    assert caught.value.__notes__ == [
        "a tensor that validate(), test() or predict() made under torch.inference_mode was used in training: KeepsCentres keeps "
        f"such tensors as 'centres'; {WAY_OUT}"
    ]
    module.centres = [centre.clone() for centre in module.centres]
    Trainer(**options).fit(module)  # the ways out lead out
    module.centres = []
    getattr(Trainer(**options, inference_mode=False), stage)(module, **({} if stage == "predict" else {"verbose": False}))
    Trainer(**options).fit(module)


def test_promise_64_a_buffer_made_in_an_evaluation_is_refused_before_training():
    class Sets(TinyModule):
        def test_step(self, batch, batch_idx):
            self.register_buffer("mean", batch[0].mean(dim=0))

    module = Sets()
    Trainer(**QUIET).test(module, verbose=False)
    with pytest.raises(RuntimeError) as caught:
        Trainer(max_epochs=1, **QUIET).fit(module)
    assert str(caught.value) == (
        "the buffer 'mean' of Sets was made in validate(), test() or predict(), under torch.inference_mode, and cannot be "
        f"trained with; {WAY_OUT}"
    )
