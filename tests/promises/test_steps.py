"""Promises about optimizer steps: counters, schedulers, scaling, monitors, closures, resuming at an epoch's end."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from leyden import Callback, Module, Precision, Trainer, hookimpl
from leyden.testing import RandomData, TinyModule
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def data(batches=5):
    return DataLoader(RandomData(4 * batches), batch_size=4)


def assert_same(one, other):
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


# ---- 8 and 9: resuming, for now at the end of an epoch ----


class Stream(Callback):
    """Notes the hooks of training and validation with their places and the learning rates, and saves as an epoch ends."""

    def __init__(self, save_after=None):
        self.calls, self.rates, self.save_after = [], [], save_after

    def note(self, trainer, name, batch_idx=None):
        self.calls.append((name, trainer.current_epoch, trainer.global_step, batch_idx))

    def on_train_epoch_start(self, trainer, module):
        self.note(trainer, "epoch start")

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.note(trainer, "batch start", batch_idx)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.note(trainer, "step")
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.note(trainer, "batch end", batch_idx)

    def on_validation_start(self, trainer, module):
        self.note(trainer, "validation start")

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        self.note(trainer, "validation batch end", batch_idx)

    def on_validation_end(self, trainer, module):
        self.note(trainer, "validation end")

    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer, module):
        self.note(trainer, "epoch end")
        if trainer.current_epoch == self.save_after:
            trainer.save_checkpoint("resume.ckpt")


def interrupted(make_module, at, **options):
    """The streams of an uninterrupted run and of one that ends after epoch ``at`` and is resumed."""
    whole, first, second = Stream(), Stream(save_after=at), Stream()
    options = {"num_sanity_val_steps": 0, **QUIET, **options}
    Trainer(max_epochs=4, callbacks=[whole], **options).fit(make_module(), data(), data(2))
    Trainer(max_epochs=at + 1, callbacks=[first], **options).fit(make_module(), data(), data(2))
    Trainer(max_epochs=4, callbacks=[second], **options).fit(make_module(), data(), data(2), ckpt_path="resume.ckpt")
    assert Path("resume.ckpt").exists()
    return whole, first, second


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate_grad_batches": 2}, {"val_check_interval": 2}, {"val_check_interval": 3, "check_val_every_n_epoch": None},
     {"val_check_interval": "4 steps"}, {"check_val_every_n_epoch": 2}],
    ids=str,
)  # fmt: skip
def test_promise_8_the_calls_of_a_run_resumed_after_an_epoch_continue_those_before_it(options, at):
    whole, first, second = interrupted(TinyModule, at, **options)
    assert first.calls + second.calls == whole.calls
    assert len(second.calls) > 10


SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, gamma=0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 3, 7], gamma=0.5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 7),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 12, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=40),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, "max", factor=0.5, patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.8)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # SequentialLR's own
@pytest.mark.parametrize("interval", ["step", "epoch", "validation"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_promise_9_the_learning_rates_of_a_run_resumed_after_an_epoch_are_those_of_the_whole_run(name, interval):
    class Scheduled(TinyModule):
        def __init__(self):
            torch.manual_seed(0)
            super().__init__()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            config = {"scheduler": SCHEDULERS[name](optimizer), "interval": interval}
            if name == "ReduceLROnPlateau":
                config["monitor"] = "val_loss" if interval == "validation" else "train_loss"
            return {"optimizer": optimizer, "lr_scheduler": config}

    whole, first, second = interrupted(Scheduled, 1)
    assert first.rates + second.rates == whole.rates
    assert len(set(whole.rates)) > 1


# ---- 10 and 12: scaled gradients ----


class Scales(Precision):
    """Scales the loss by 2^16, which changes no bit of a float32 gradient, and skips steps whose number is in ``skips``."""

    scale = 2.0**16

    def __init__(self, skips=()):
        self.skips, self.tried, self.unscaled = set(skips), 0, set()

    def backward(self, loss, *args, **kwargs):
        (loss * self.scale).backward(*args, **kwargs)

    def unscale(self, optimizer):
        if id(optimizer) not in self.unscaled:
            self.unscaled.add(id(optimizer))
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.div_(self.scale)

    def step(self, optimizer, closure=None):
        self.unscaled.discard(id(optimizer))
        self.tried += 1
        if self.tried - 1 in self.skips:
            return False
        optimizer.step(closure)
        return True


class Net(Module):
    def __init__(self, manual=False, clip=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
        self.automatic_optimization = not manual
        self.clip = clip
        self.rates = []

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            if self.clip:
                self.clip_gradients(optimizer, self.clip, "norm")
            optimizer.step()
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        return [optimizer], [{"scheduler": lr_scheduler.ExponentialLR(optimizer, 0.5), "interval": "step"}]

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])


def test_promise_10_a_skipped_step_moves_nothing():
    trainer = Trainer(max_epochs=1, plugins=[Scales(skips={0, 2})], **QUIET)
    module = Net()
    trainer.fit(module, data())
    assert (trainer.global_step, trainer.progress.skipped_steps, trainer.progress.optimizer_steps) == (3, 2, [3])
    assert module.rates == [0.5, 0.25, 0.25, 0.125, 0.0625]


def test_promise_32_the_number_of_skipped_steps_is_logged_with_each_epoch_and_only_where_there_are_any():
    trainer = Trainer(max_epochs=2, plugins=[Scales(skips={0, 2})], **QUIET)
    history = trainer.fit(Net(), data())
    assert (history.steps("skipped_steps"), history["skipped_steps"]) == ([2, 7], [2.0, 2.0])
    assert "skipped_steps" not in Trainer(max_epochs=1, **QUIET).fit(Net(), data())


def test_promise_10_holds_in_manual_optimization_whose_schedulers_are_the_users():
    trainer = Trainer(max_epochs=1, plugins=[Scales(skips={0, 2})], **QUIET)
    trainer.fit(Net(manual=True), data())
    assert (trainer.global_step, trainer.progress.skipped_steps, trainer.progress.optimizer_steps) == (3, 2, [3])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_promise_12_clipping_sees_unscaled_gradients_in_automatic_optimization(accumulate):
    ours, theirs = Net(), None
    theirs = copy.deepcopy(ours)
    options = {"max_epochs": 2, "gradient_clip_val": 0.05, "accumulate_grad_batches": accumulate, **QUIET}
    Trainer(plugins=[Scales()], **options).fit(ours, data())
    Trainer(**options).fit(theirs, data())
    assert_same(ours, theirs)


@pytest.mark.parametrize("where", ["trainer", "module"])
def test_promise_12_clipping_sees_unscaled_gradients_in_manual_optimization(where):
    ours = Net(manual=True, clip=0.05 if where == "module" else None)
    theirs = copy.deepcopy(ours)
    options = {"max_epochs": 2, "gradient_clip_val": 0.05 if where == "trainer" else None, **QUIET}
    Trainer(plugins=[Scales()], **options).fit(ours, data())
    Trainer(**options).fit(theirs, data())
    assert_same(ours, theirs)
    unclipped = copy.deepcopy(ours)
    before = copy.deepcopy(unclipped)
    unclipped.clip = None
    Trainer(max_epochs=1, **QUIET).fit(unclipped, data())
    assert not torch.equal(unclipped.net[0].weight, before.net[0].weight)


# ---- 17: monitors ----


def test_promise_17_validation_scheduler_early_stopping_and_checkpoint_come_in_this_order(tmp_path):
    from leyden_callbacks import EarlyStopping, ModelCheckpoint

    calls = []

    class Stopping(EarlyStopping):
        def on_validation_end(self, trainer, module):
            calls.append(("early stopping", trainer.callback_metrics["val_loss"].item()))
            super().on_validation_end(trainer, module)

    class Saving(ModelCheckpoint):
        def on_validation_end(self, trainer, module):
            calls.append(("checkpoint", trainer.callback_metrics["val_loss"].item()))
            super().on_validation_end(trainer, module)

    class Monitored(TinyModule):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss",
                                                             "interval": "validation"}}  # fmt: skip

        def on_validation_epoch_end(self):
            calls.append(("validation", self.trainer.callback_metrics["val_loss"].item()))

        def lr_scheduler_step(self, scheduler, metric):
            calls.append(("scheduler", metric.item()))
            super().lr_scheduler_step(scheduler, metric)

    Trainer(
        max_epochs=3,
        num_sanity_val_steps=0,
        callbacks=[Saving(dirpath=tmp_path, monitor="val_loss"), Stopping("val_loss", patience=9)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Monitored())
    assert len(calls) == 12
    for index in range(0, 12, 4):
        names, values = zip(*calls[index : index + 4], strict=True)
        assert names == ("validation", "scheduler", "early stopping", "checkpoint")
        assert len(set(values)) == 1  # all of them see the value of this validation


# ---- 50: closures ----


class Repeats(torch.optim.SGD):
    """Evaluates its closure as often as it is told."""

    times = 1

    def step(self, closure=None):
        loss = None
        for _ in range(self.times):
            with torch.enable_grad():
                loss = closure()
        super().step()
        return loss


@pytest.mark.parametrize("times", [1, 2, 3])
def test_promise_50_a_closure_may_be_called_several_times_and_logs_once_a_step(times):
    class Logs(Net):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss, on_step=True, on_epoch=True, batch_size=4)
            return loss

        def configure_optimizers(self):
            optimizer = Repeats(self.parameters(), lr=0.1)
            optimizer.times = times
            return optimizer

    ours = Logs()
    theirs = copy.deepcopy(ours)
    trainer = Trainer(max_epochs=2, log_every_n_steps=1, **QUIET)
    history = trainer.fit(ours, data())
    optimizer = theirs.configure_optimizers()
    losses = []
    for _ in range(2):
        for batch in data():

            def closure(batch=batch):
                optimizer.zero_grad()
                loss = F.cross_entropy(theirs.net(batch[0]), batch[1])
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
    assert_same(ours, theirs)
    assert trainer.global_step == 10
    assert history["loss_step"] == losses
    assert history["loss_epoch"] == [pytest.approx(sum(losses[:5]) / 5), pytest.approx(sum(losses[5:]) / 5)]


def test_promise_50_an_optimizer_that_never_calls_its_closure_trains_on_nothing():
    class Never(torch.optim.SGD):
        def step(self, closure=None):
            return None

    class Lazy(Net):
        def configure_optimizers(self):
            return Never(self.parameters(), lr=0.1)

    ours = Lazy()
    before = copy.deepcopy(ours)
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(ours, data())
    assert_same(ours, before)
    assert trainer.progress.total_batches == 5
