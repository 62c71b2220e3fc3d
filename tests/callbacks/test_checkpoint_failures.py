"""Checkpoints when something goes wrong: a disk that is full for a while, an optimizer that fails half-way, a second Ctrl-C."""

from __future__ import annotations

import errno
import os
from datetime import timedelta

import pytest
import torch
from leyden import CheckpointIO, LeydenWarning
from leyden.checkpoint.manifest import Manifest
from leyden.testing import TinyModule
from leyden_callbacks import LambdaCallback, ModelCheckpoint, OnExceptionCheckpoint


@pytest.fixture
def full_disk(monkeypatch):
    """A switch: while ``full_disk["full"]`` is true, checkpoints cannot be written."""
    state = {"full": False, "refused": 0}
    own = os.write

    def write(descriptor, data):
        if state["full"]:
            state["refused"] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return own(descriptor, data)

    monkeypatch.setattr("leyden.checkpoint.files.os.write", write)
    return state


def full_from(state, first, until):
    def after_batch(trainer, module, outputs, batch, batch_idx):
        getattr(trainer.checkpoint_io, "wait", bool)()  # what is being written is written before
        state["full"] = first <= trainer.global_step < until

    return LambdaCallback(on_train_batch_end=after_batch)


# ---- a save that fails ----


@pytest.mark.parametrize("checkpoint_io", ["torch", "async"])
@pytest.mark.parametrize("save_last", [None, True])
def test_a_run_goes_on_after_a_save_that_failed_and_saves_again_when_the_next_is_due(
    fit, saved, full_disk, checkpoint_io, save_last, tmp_path
):
    checkpoint = ModelCheckpoint(every_n_train_steps=1, on_save_error="warn", save_last=save_last)
    with pytest.warns(LeydenWarning) as said:
        trainer = fit(full_from(full_disk, 3, 5), checkpoint, checkpoint_io=None if checkpoint_io == "torch" else checkpoint_io)
    assert full_disk["refused"] >= 2
    assert trainer.global_step == 8
    names = ["epoch=1-step=8.ckpt"] + (["last.ckpt"] if save_last else [])
    assert saved() == names
    assert checkpoint.best_model_path.endswith("epoch=1-step=8.ckpt")
    assert sorted(entry.name for entry in Manifest.read(tmp_path / "checkpoints").of_run()) == names
    assert len(checkpoint.failed_saves) >= (2 if checkpoint_io == "torch" else 1)
    assert all("No space left on device" in text for text in checkpoint.failed_saves)
    messages = [str(warning.message) for warning in said]
    assert "training goes on, and the next checkpoint is tried when it is due" in messages[0]
    times = f"{len(checkpoint.failed_saves)} times" if len(checkpoint.failed_saves) > 1 else "once"
    assert messages[-1].startswith(f"in this run saving failed {times}, last with: ")


@pytest.mark.parametrize("checkpoint_io", ["torch", "async"])
def test_what_was_there_stays_and_resumes_when_every_later_save_fails(fit, saved, full_disk, checkpoint_io, tmp_path):
    checkpoint = ModelCheckpoint(every_n_train_steps=2, on_save_error="warn")
    with pytest.warns(LeydenWarning, match="No space left on device"):
        fit(full_from(full_disk, 4, 99), checkpoint, checkpoint_io=None if checkpoint_io == "torch" else checkpoint_io)
    assert saved() == ["epoch=0-step=2.ckpt"]
    full_disk["full"] = False
    assert checkpoint.best_model_path == str(tmp_path / "checkpoints/epoch=0-step=2.ckpt")
    started = []
    told = LambdaCallback(on_train_start=lambda trainer, module: started.append(trainer.global_step))
    fit(told, ModelCheckpoint(tmp_path / "checkpoints"), ckpt_path="last")
    assert started == [2]


def test_by_default_a_save_that_fails_ends_the_run(fit, saved, full_disk):
    with pytest.raises(OSError, match="No space left on device"):
        fit(full_from(full_disk, 4, 99), ModelCheckpoint(every_n_train_steps=2))
    assert saved() == ["epoch=0-step=2.ckpt"]


def test_only_what_the_file_system_refuses_is_passed_over(fit):
    class Odd(TinyModule):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["odd"] = object()

    with pytest.raises(TypeError, match="odd"):
        fit(ModelCheckpoint(on_save_error="warn"), module=Odd())


def test_on_save_error_is_one_of_two():
    with pytest.raises(ValueError, match="on_save_error='ignore'"):
        ModelCheckpoint(on_save_error="ignore")


def test_what_a_run_was_about_to_delete_when_it_died_is_deleted_by_the_next(fit, saved, tmp_path, monkeypatch):
    with monkeypatch.context() as dying:
        dying.setattr(CheckpointIO, "remove", lambda self, path: None)
        fit(ModelCheckpoint(tmp_path / "run"))
    assert saved(tmp_path / "run") == ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt"]
    found = []
    fit(
        LambdaCallback(on_train_start=lambda trainer, module: found.extend(saved(tmp_path / "run"))),
        ModelCheckpoint(tmp_path / "run"),
    )
    assert found == ["epoch=1-step=8.ckpt"]


def test_the_list_has_the_new_checkpoint_before_the_old_one_is_deleted(fit, tmp_path, monkeypatch):
    seen, own = [], CheckpointIO.remove

    def remove(self, path):
        entries = Manifest.read(tmp_path / "run").entries
        seen.append([(entry.name, entry.kind) for entry in entries])
        own(self, path)

    monkeypatch.setattr(CheckpointIO, "remove", remove)
    fit(ModelCheckpoint(tmp_path / "run"))
    assert seen == [[("epoch=0-step=4.ckpt", "obsolete"), ("epoch=1-step=8.ckpt", "top_k")]]


# ---- half of a step ----


class HalfWay(torch.optim.SGD):
    """Updates its first parameter and fails at the sixth step."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps == 6:
            with torch.no_grad():
                self.param_groups[0]["params"][0].add_(100.0)
            raise RuntimeError("half-way")
        return super().step(closure)


class Half(TinyModule):
    def configure_optimizers(self):
        return HalfWay(self.parameters(), lr=0.1)


@pytest.mark.parametrize("weights_only", [False, True])
def test_half_of_a_step_is_not_saved_on_an_exception_and_the_error_says_so(fit, saved, weights_only):
    with pytest.raises(RuntimeError, match="half-way") as caught:
        fit(ModelCheckpoint(save_on_exception=True, save_weights_only=weights_only), module=Half())
    assert saved() == ["epoch=0-step=4.ckpt"]
    assert "batch 1 of epoch 1 failed inside optimizer.step()" in "".join(caught.value.__notes__)


def test_half_of_a_step_is_not_saved_by_the_callback_for_exceptions(fit, tmp_path):
    with pytest.raises(RuntimeError, match="half-way") as caught:
        fit(OnExceptionCheckpoint(tmp_path / "failed"), module=Half())
    assert list((tmp_path / "failed").iterdir()) == []
    assert "some parameters may have been updated and others not" in "".join(caught.value.__notes__)


class SecondFails(TinyModule):
    """Two optimizers in turns; the second one's step fails after the first has updated its parameters."""

    def configure_optimizers(self):
        return [torch.optim.SGD([parameter], lr=0.1) for parameter in self.layer.parameters()]

    def training_step(self, batch, batch_idx, optimizer_idx):
        if optimizer_idx == 1 and batch_idx == 1 and self.current_epoch == 1:
            raise RuntimeError("the second")
        return super().training_step(batch, batch_idx)


class ByHandFails(TinyModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()
        if batch_idx == 1 and self.current_epoch == 1:
            raise RuntimeError("after its step")


@pytest.mark.parametrize("module", [SecondFails, ByHandFails])
def test_a_batch_that_failed_after_one_of_its_optimizers_stepped_is_not_saved(fit, saved, module):
    with pytest.raises(RuntimeError, match=r"the second|after its step") as caught:
        fit(ModelCheckpoint(save_on_exception=True), module=module())
    assert saved() == ["epoch=0-step=4.ckpt"]
    assert "failed after its optimizer step" in "".join(caught.value.__notes__)


def test_a_loss_that_fails_before_an_optimizer_with_a_closure_updates_anything_is_saved(fit, saved):
    class Closed(TinyModule):
        def training_step(self, batch, batch_idx):
            if self.global_step == 5:
                raise RuntimeError("no loss")
            return super().training_step(batch, batch_idx)

        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer.step(closure=optimizer_closure)

    with pytest.raises(RuntimeError, match="no loss"):
        fit(ModelCheckpoint(save_on_exception=True), module=Closed())
    assert saved() == ["epoch=0-step=4.ckpt", "exception-epoch=1-step=5.ckpt"]


@pytest.mark.usefixtures("plain_handlers")
def test_the_first_ctrl_c_is_saved_by_the_callback_for_exceptions_and_goes_on_exactly(fit, tmp_path):
    whole, stopped = TinyModule(), TinyModule()
    stopped.load_state_dict(whole.state_dict())

    def interrupt(trainer, module):
        if trainer.global_step == 5:
            os.kill(os.getpid(), 2)

    callback = OnExceptionCheckpoint(tmp_path / "failed")
    fit(module=whole)
    with pytest.raises(KeyboardInterrupt):
        fit(LambdaCallback(on_after_backward=interrupt), callback, module=stopped)
    assert fit(module=stopped, ckpt_path=callback.ckpt_path).global_step == 8
    assert torch.equal(stopped.layer.weight, whole.layer.weight)


@pytest.mark.usefixtures("plain_handlers")
def test_a_second_ctrl_c_in_the_middle_of_a_step_is_not_saved_and_that_is_said(fit, tmp_path, capsys):
    def interrupt(trainer, module):
        if trainer.global_step == 5:
            os.kill(os.getpid(), 2)
            os.kill(os.getpid(), 2)

    with pytest.raises(KeyboardInterrupt):
        fit(LambdaCallback(on_after_backward=interrupt), OnExceptionCheckpoint(tmp_path / "failed"))
    assert list((tmp_path / "failed").iterdir()) == []
    assert "not saved, for the run was stopped at once, perhaps in the middle of a step" in capsys.readouterr().err


def test_a_request_to_stop_is_one_to_its_process_so_that_a_resumed_run_goes_on(fit, tmp_path):
    def stop(trainer, module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step == 3

    checkpoint = ModelCheckpoint(tmp_path / "run", every_n_train_steps=3)
    assert fit(LambdaCallback(on_train_batch_end=stop), checkpoint).global_step == 3
    trainer = fit(ckpt_path=checkpoint.best_model_path)
    assert (trainer.global_step, trainer.should_stop) == (8, False)


# ---- when, and what is said before ----


@pytest.mark.parametrize(
    "interval",
    ["30 min", "00:00:30:00", "30:00", {"minutes": 30}, timedelta(minutes=30)],
    ids=["unit", "days", "short", "dict", "delta"],
)
def test_a_time_between_checkpoints_is_given_as_other_times_are(interval):
    assert ModelCheckpoint(train_time_interval=interval).state_key == ModelCheckpoint(train_time_interval="1800 s").state_key


@pytest.mark.parametrize(
    ("interval", "kind", "said"),
    [
        ("2 epochs", ValueError, "it cannot be given in epochs"),
        ("soon", ValueError, "expected a number and a unit, such as '30 min'"),
        ("1:xx", ValueError, "expected DD:HH:MM:SS"),
        (30, TypeError, "a timedelta or a dict, got int 30"),
        ({"fortnights": 1}, TypeError, "expected the arguments of timedelta"),
        (timedelta(), ValueError, "expected a time above 0"),
    ],
    ids=str,
)
def test_a_time_that_cannot_be_read_is_refused(interval, kind, said):
    with pytest.raises(kind, match=said) as caught:
        ModelCheckpoint(train_time_interval=interval)
    assert str(caught.value).startswith(f"ModelCheckpoint(train_time_interval={interval!r}): ")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "saves a checkpoint every epoch, keeps the newest, in {}"),
        (
            {"every_n_train_steps": 50, "save_last": True},
            "saves a checkpoint every 50 optimizer steps, keeps the newest and the newest as 'last', in {}",
        ),
        (
            {"monitor": "val_loss", "save_top_k": 3, "save_weights_only": True},
            "saves the weights every epoch, after validation, keeps the best 3 by val_loss (min), in {}",
        ),
        (
            {"train_time_interval": "30 min", "monitor": "step", "save_top_k": -1},
            "saves a checkpoint every 0:30:00, after validation, keeps all, in {}",
        ),
    ],
    ids=["plain", "steps", "best", "time"],
)
def test_the_plan_of_a_run_says_when_it_saves_and_what_it_keeps(fit, tmp_path, options, line):
    found = []
    fit(
        LambdaCallback(on_train_start=lambda trainer, module: found.extend(trainer.outline().splitlines())),
        ModelCheckpoint(tmp_path, **options),
    )
    assert line.format(tmp_path) in found
