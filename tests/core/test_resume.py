"""A fit that goes on from a checkpoint, compared with the one that was never interrupted: hooks, samples, losses, records."""

from __future__ import annotations

import inspect
import random

import numpy as np
import pytest
import torch
from leyden import Callback, Module, Trainer, hookimpl
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

pytestmark = pytest.mark.usefixtures("core_alone")

HOOKS = [
    "on_train_epoch_start", "on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_epoch_start",
    "on_validation_batch_start", "on_validation_batch_end", "on_validation_epoch_end", "on_validation_end",
    "on_train_epoch_end",
]  # fmt: skip
LAST = ["on_train_batch_end", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end"]


class Killed(Exception):
    """Stands for the end of a process."""


class Augmented(Dataset):
    """Samples that say which they are, with noise from each of the three generators that people draw from."""

    def __init__(self, length=14):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        noise = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])
        return torch.cat([noise, torch.full((3,), index / self.length)]), torch.tensor(index)


class Net(Module):
    """Drops out, normalizes by batch, draws in its steps, and logs values of steps and of epochs."""

    scheduler = None
    interval = "step"

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.4), nn.Linear(5, 1))
        self.seen = []

    def loss(self, batch):
        x, index = batch
        if index.ndim == 0:
            x, index = torch.stack([x, x + 1]), torch.stack([index, index])
        return F.mse_loss(self.net(x).squeeze(1), index.float() / 10) * (1 + 0.1 * float(torch.rand(())))

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch) * (1 + 0.1 * np.random.rand() + 0.1 * random.random())
        self.seen.append((batch[1].tolist(), batch[0].sum().item(), loss.item()))
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("largest", loss, on_step=False, on_epoch=True, reduce_fx=max)
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.net[2].train()  # so that random numbers matter here too
        value = self.loss(batch)
        self.seen.append(("val", batch[1].tolist(), batch[0].sum().item(), value.item()))
        self.log("val_loss", value)

    def on_validation_epoch_end(self):
        self.log("validations", float(self.trainer.progress.validations))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        if self.scheduler is None:
            return optimizer
        config = {"scheduler": self.scheduler(optimizer), "interval": self.interval}
        if isinstance(config["scheduler"], lr_scheduler.ReduceLROnPlateau) or self.interval == "validation":
            config["monitor"] = "val_loss"
            config["strict"] = False
        return {"optimizer": optimizer, "lr_scheduler": config}


class Watch(Callback):
    """Notes every hook with its place, and ends the process, as it were, after saving in the one of a given number."""

    def __init__(self, save_in=None):
        self.calls, self.save_in = [], save_in

    def note(self, trainer, name, arguments):
        place = trainer.current_epoch, trainer.global_step, arguments.get("batch_idx"), arguments.get("dataloader_idx")
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self.calls.append((name, *place, rates))
        if self.save_in == len(self.calls):
            trainer.save_checkpoint("resume.ckpt")
            raise Killed


def _hook(name):
    signature = inspect.signature(getattr(Callback, name))

    def method(self, *args):
        named = dict(zip(list(signature.parameters)[1:], args, strict=False))
        self.note(named["trainer"], name, named)

    method.__signature__ = signature
    return hookimpl(trylast=True)(method)  # a hook in which somebody saves is over for everybody


for _name in HOOKS:
    setattr(Watch, _name, _hook(_name))


def train():
    return DataLoader(Augmented(), batch_size=3, shuffle=True)


def val():
    return DataLoader(Augmented(7), batch_size=3)


def fresh(make_module):
    seed_all(5)
    return make_module()


def seed_all(seed):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def whole_run(make_module=Net, data=train, val_data=val, extra=(), **options):
    """A run without interruption: its module, its hooks, its records."""
    watch, module = Watch(), fresh(make_module)
    trainer = make_trainer(watch, extra, options)
    history = trainer.fit(module, data(), val_data() if val_data else None)
    return module, watch.calls, records(history), trainer


def make_trainer(watch, extra, options):
    more = [make() for make in extra]
    return Trainer(**{"max_epochs": 2, "log_every_n_steps": 2, "num_sanity_val_steps": 0, "callbacks": [*more, watch], **options})


def records(history):
    return [(record.step, record.epoch, record.values) for record in history.records]


def interrupted(at, make_module=Net, data=train, val_data=val, extra=(), **options):
    """Two runs, the first of which ends after saving in its hook number ``at``: what both have seen, one after the other."""
    first, second = Watch(at), Watch()
    before = fresh(make_module)
    trainer = make_trainer(first, extra, options)
    with pytest.raises(Killed):
        trainer.fit(before, data(), val_data() if val_data else None)
    seed_all(99)  # another process would have other numbers
    after = make_module()
    resumed = make_trainer(second, extra, options)
    history = resumed.fit(after, data(), val_data() if val_data else None, ckpt_path="resume.ckpt")
    seen = before.seen + after.seen
    return after, first.calls + second.calls, records(trainer.history) + records(history), seen, resumed


def assert_goes_on(at, whole, **arguments):
    module, calls, logged, trainer = whole
    after, calls_2, logged_2, seen, resumed = interrupted(at, **arguments)
    where = calls[at - 1][:4]
    assert calls_2 == calls, where
    assert seen == module.seen, where
    assert logged_2 == logged, where
    assert resumed.progress == trainer.progress, where
    for (name, value), (_, other) in zip(module.state_dict().items(), after.state_dict().items(), strict=True):
        assert torch.equal(value, other), (where, name)
    for one, other in zip(trainer.optimizers, resumed.optimizers, strict=True):
        assert str(one.state_dict()) == str(other.state_dict()), where


def test_a_run_goes_on_exactly_from_every_hook():
    whole = whole_run(val_check_interval=2)
    for at in range(1, len(whole[1]) + 1):
        assert_goes_on(at, whole, val_check_interval=2)


class SavesAtEnd(Callback):
    """Saves at the end of each epoch, cut short or not, and asks to stop after a batch if it is to."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        trainer.should_stop |= trainer.progress.total_batches == self.stop_after

    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer):
        trainer.save_checkpoint("end.ckpt")


@pytest.mark.parametrize(
    ("stop", "accumulate"), [({"max_steps": 3}, 1), ({"max_steps": 1}, 2), ({"stop_after": 4}, 3), ({"stop_after": 7}, 1)]
)
def test_a_run_that_stopped_inside_an_epoch_goes_on_with_the_rest_of_it(stop, accumulate):
    """Not with the next epoch, which would leave out samples whenever a run is extended."""
    stop, options = dict(stop), {"accumulate_grad_batches": accumulate, "log_every_n_steps": 1, "val_check_interval": 2}
    whole, _, logged, _ = whole_run(**options)
    callback = SavesAtEnd(stop.pop("stop_after", None))
    before = fresh(Net)
    make_trainer(callback, (), {**options, **stop}).fit(before, train(), val())
    seed_all(99)
    after = Net()
    history = make_trainer(SavesAtEnd(), (), options).fit(after, train(), val(), ckpt_path="end.ckpt")
    trained = [[item for item in seen if item[0] != "val"] for seen in (before.seen + after.seen, whole.seen)]
    assert trained[0] == trained[1]
    epochs = {key: value for record in records(history) for key, value in record[2].items() if key in ("loss_epoch", "largest")}
    assert epochs == {key: value for record in logged for key, value in record[2].items() if key in epochs}
    for (name, value), (_, other) in zip(whole.state_dict().items(), after.state_dict().items(), strict=True):
        assert torch.equal(value, other), name


OPTIONS = {
    "plain": {},
    "accumulates": {"accumulate_grad_batches": 3, "val_check_interval": 2},
    "across epochs": {"val_check_interval": 3, "check_val_every_n_epoch": None},
    "by steps": {"val_check_interval": "3 steps", "accumulate_grad_batches": 2},
    "limited": {"limit_train_batches": 4, "limit_val_batches": 1, "max_steps": 7},
    "logs each step": {"log_every_n_steps": 1},
    "logs seldom": {"log_every_n_steps": 4, "check_val_every_n_epoch": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_run_goes_on_exactly_under_any_settings(options):
    whole = whole_run(**options)
    for at in range(1, len(whole[1]) + 1, 3):
        assert_goes_on(at, whole, **options)
