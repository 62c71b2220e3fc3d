"""Accumulation by epoch, timers, functions as callbacks, checkpoints of failures, garbage, device statistics."""

from __future__ import annotations

import copy
import gc
import sys
from datetime import timedelta
from types import SimpleNamespace

import leyden_callbacks.timer
import psutil
import pytest
import torch
from leyden import Accelerator, Logger
from leyden.testing import TinyModule
from leyden_callbacks import (
    DeviceStatsMonitor,
    GarbageCollection,
    GradientAccumulationScheduler,
    LambdaCallback,
    OnExceptionCheckpoint,
    Timer,
)

# ---- gradient_accumulation_scheduler ----


def test_the_batches_of_a_step_change_with_the_epoch(fit):
    steps = []
    trainer = fit(
        GradientAccumulationScheduler({1: 2, 3: 4}),
        LambdaCallback(on_train_epoch_end=lambda trainer, module: steps.append(trainer.global_step)),
        max_epochs=5,
    )
    assert steps == [4, 6, 8, 9, 10]  # 4 batches an epoch
    assert trainer.accumulate_grad_batches == 1


def test_accumulated_epochs_end_with_the_bits_of_larger_batches(fit):
    class Larger(TinyModule):
        def train_dataloader(self):
            return torch.utils.data.DataLoader(super().train_dataloader().dataset, batch_size=8)

    torch.manual_seed(1)
    accumulated = TinyModule()
    torch.manual_seed(1)
    larger = Larger()
    fit(GradientAccumulationScheduler({0: 2}), module=accumulated)
    fit(module=larger)
    torch.testing.assert_close(accumulated.layer.weight, larger.layer.weight)


class Manual(TinyModule):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


@pytest.mark.parametrize("kind", [TinyModule, Manual])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_a_run_resumed_inside_an_epoch_accumulates_as_before(fit, tmp_path, kind, batch):
    def save(trainer, module, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == batch:
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    whole, resumed = kind(), kind()
    fit(GradientAccumulationScheduler({1: 2}), LambdaCallback(on_train_batch_end=save), module=whole)
    trainer = fit(GradientAccumulationScheduler({1: 2}), module=resumed, ckpt_path=str(tmp_path / "saved.ckpt"))
    assert trainer.global_step == 6
    assert torch.equal(whole.layer.weight, resumed.layer.weight)


def test_it_works_in_manual_optimization(fit):
    assert fit(GradientAccumulationScheduler({0: 2}), module=Manual()).global_step == 4


@pytest.mark.parametrize(
    ("scheduling", "kind", "message"),
    [
        (4, TypeError, "expected a dict such as {0: 8, 4: 1}, got int 4"),
        ({}, ValueError, "expected at least one epoch, such as {0: 8}"),
        ({-1: 2}, ValueError, "the epoch -1 is less than 0"),
        ({0: 0}, ValueError, "the number of batches 0 is less than 1"),
        ({"0": 1}, TypeError, "the epoch '0' is no int"),
    ],
)
def test_a_wrong_scheduling(scheduling, kind, message, refusal):
    assert refusal(kind, GradientAccumulationScheduler, scheduling) == (
        f"GradientAccumulationScheduler(scheduling={scheduling!r}): {message}"
    )


def test_the_trainer_accumulates_too(fit, refusal):
    assert refusal(ValueError, fit, GradientAccumulationScheduler({0: 2}), accumulate_grad_batches=4) == (
        "GradientAccumulationScheduler and Trainer(accumulate_grad_batches=4) both say how many batches make a step; "
        "leave out one of them"
    )
    assert refusal(ValueError, fit, GradientAccumulationScheduler({0: 2}), carry_accumulation=True) == (
        "GradientAccumulationScheduler begins a step with each epoch, so Trainer(carry_accumulation=True) cannot be met"
    )


# ---- timer ----


@pytest.fixture
def clock(monkeypatch):
    """A clock that a callback moves seven seconds on in each batch."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(leyden_callbacks.timer, "time", SimpleNamespace(monotonic=lambda: now.seconds))

    def tick(trainer, module, loss):
        now.seconds += 7

    now.callback = LambdaCallback(on_before_backward=tick)
    return now


@pytest.mark.parametrize("duration", ["30 s", "00:00:00:30", "0:30", timedelta(seconds=30), {"seconds": 30}])
def test_training_stops_when_time_is_up(fit, clock, capsys, duration):
    trainer = fit(clock.callback, Timer(duration))
    assert trainer.global_step == 5
    assert "leyden: training stops after 0:00:35, in epoch 1: its time is up\n" in capsys.readouterr().err


def test_it_may_wait_for_the_end_of_the_epoch(fit, clock):
    assert fit(clock.callback, Timer("30 s", interval="epoch"), max_epochs=4).global_step == 8


def test_what_it_knows_of_each_stage(fit, clock):
    timer = Timer("1 h", verbose=False)
    assert timer.time_elapsed() == 0
    assert timer.start_time() is None
    trainer = fit(clock.callback, timer)
    assert (timer.start_time(), timer.end_time(), timer.time_elapsed(), timer.time_remaining()) == (0, 56, 56, 3600 - 56)
    assert timer.end_time("validate") is not None
    assert timer.end_time("test") is None
    trainer.test(trainer.module, verbose=False)
    assert timer.end_time("test") is not None
    assert Timer().time_remaining() is None


def test_a_resumed_run_counts_the_time_before(fit, clock, tmp_path):
    first = Timer("60 s")
    trainer = fit(clock.callback, first, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    second = Timer("60 s")
    trainer = fit(clock.callback, second, max_epochs=9, ckpt_path=str(tmp_path / "saved.ckpt"))
    assert trainer.global_step == 9  # 63 seconds
    assert second.time_elapsed() == 63


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"duration": "30"}, ValueError, "Timer(duration='30'): expected a number and a unit, such as '30 min'"),
        ({"duration": "30 parsecs"}, ValueError,
         "Timer(duration='30 parsecs'): there is no unit 'parsecs'; units: 's', 'min', 'h', 'd'"),
        ({"duration": "2 epochs"}, ValueError, "Timer(duration='2 epochs'): it cannot be given in epochs, only in 'second'"),
        ({"duration": "a:b"}, ValueError,
         "Timer(duration='a:b'): expected DD:HH:MM:SS in numbers, or a number and a unit, such as '12 h'"),
        ({"duration": 12}, TypeError,
         "Timer(duration=12): expected a text such as '30 min' or 'DD:HH:MM:SS', a timedelta or a dict, got int 12"),
        ({"duration": "00:00"}, ValueError, "Timer(duration='00:00'): expected a time above 0"),
        ({"interval": "batch"}, ValueError, "Timer(interval='batch'): expected 'step' or 'epoch'"),
        ({"verbose": 1}, TypeError, "Timer(verbose=1): expected True or False, got int 1"),
    ],
)  # fmt: skip
def test_wrong_timers(options, kind, message, refusal):
    assert refusal(kind, Timer, **options) == message


def test_a_stage_that_there_is_not(refusal):
    assert refusal(ValueError, Timer().time_elapsed, "training") == (
        "Timer(stage='training'): expected 'train', 'validate', 'sanity_check', 'test' or 'predict'; did you mean 'train'?"
    )


# ---- lambda ----


def test_functions_are_called_at_their_hooks(fit):
    seen = []
    fit(
        {"lambda": {"on_train_batch_end": lambda t, m, outputs, b, i: seen.append(i), "on_fit_end": lambda: seen.append("end")}},
        max_epochs=1,
    )
    assert seen == [0, 1, 2, 3, "end"]


def test_functions_that_cannot_be_called(refusal):
    assert (
        refusal(ValueError, LambdaCallback) == "LambdaCallback() does nothing; pass functions by hook, such as on_train_end=print"
    )
    assert refusal(ValueError, LambdaCallback, on_train_edn=print) == (
        "LambdaCallback(on_train_edn=...): there is no hook 'on_train_edn'; did you mean 'on_train_end'?"
    )
    assert refusal(TypeError, LambdaCallback, on_train_end=3) == "LambdaCallback(on_train_end=3): expected a function, got int 3"


# ---- on_exception_checkpoint ----


def test_a_failed_run_is_saved_and_can_go_on(fit, tmp_path, capsys, refusal):
    def fail(trainer, module):
        if trainer.global_step == 5:
            raise RuntimeError("the disk is on fire")

    callback = OnExceptionCheckpoint(tmp_path / "failed", "last_words")
    whole = TinyModule()
    module = copy.deepcopy(whole)
    fit(module=whole)
    assert (
        refusal(RuntimeError, fit, LambdaCallback(on_after_backward=fail), callback, module=copy.deepcopy(module))
        == "the disk is on fire"
    )
    assert f"the state after step 5 was saved as {callback.ckpt_path}" in capsys.readouterr().err
    assert fit(module=module, ckpt_path=callback.ckpt_path).global_step == 8
    assert torch.equal(module.layer.weight, whole.layer.weight)


def test_a_run_that_ends_well_leaves_no_file(fit, tmp_path):
    fit({"on_exception_checkpoint": {"dirpath": str(tmp_path / "failed")}})
    assert list((tmp_path / "failed").iterdir()) == []


def test_a_folder_that_cannot_be_written(fit, tmp_path, refusal):
    (tmp_path / "file").touch()
    message = refusal(OSError, fit, OnExceptionCheckpoint(tmp_path / "file"))
    assert message == (
        f"OnExceptionCheckpoint(dirpath={str(tmp_path / 'file')!r}): it cannot be written: "
        f"[Errno 17] File exists: {str(tmp_path / 'file')!r}"
    )
    assert refusal(TypeError, OnExceptionCheckpoint, 3) == "OnExceptionCheckpoint(dirpath=3): expected a path, got int 3"
    assert refusal(ValueError, OnExceptionCheckpoint, "") == "OnExceptionCheckpoint(dirpath=''): expected a path, got str ''"


# ---- garbage_collection ----


def test_the_collector_runs_at_chosen_steps_only(fit):
    collected, inside = [], []

    def watch(phase, info):
        if phase == "start" and inside:
            collected.append((inside[0].global_step, info["generation"], gc.isenabled()))

    start = LambdaCallback(on_train_start=lambda trainer, module: inside.append(trainer), on_train_end=lambda: inside.clear())
    gc.callbacks.append(watch)
    try:
        fit(GarbageCollection(every_n_steps=3, generation=2), start, limit_val_batches=0)
    finally:
        gc.callbacks.remove(watch)
    assert collected == [(3, 2, False), (6, 2, False)]
    assert gc.isenabled()


def test_the_collector_is_on_again_after_a_failure(fit, refusal):
    def fail():
        raise KeyError("no")

    refusal(KeyError, fit, {"garbage_collection": {}}, LambdaCallback(on_after_backward=fail))
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "GarbageCollection(every_n_steps=0): expected an int of at least 1, got int 0"),
        ({"generation": 3}, "GarbageCollection(generation=3): expected 0, 1 or 2"),
    ],
)
def test_wrong_collections(options, message, refusal):
    assert refusal(ValueError, GarbageCollection, **options) == message


# ---- device_stats ----


def test_statistics_are_recorded_at_log_points(fit):
    trainer = fit({"device_stats": {}}, logger=Logger(), log_every_n_steps=3)
    assert trainer.history.steps("cpu/percent") == [2, 5]
    [first, _] = trainer.history["cpu/process_memory_bytes"]
    assert first == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    assert 0 < trainer.history["cpu/memory_percent"][0] <= 100


def test_statistics_of_an_accelerator(fit):
    class Counting(Accelerator):
        def stats(self, device):
            return {"memory_allocated_bytes": 5.0}

    trainer = fit(DeviceStatsMonitor(cpu_stats=False), logger=Logger(), log_every_n_steps=4, accelerator=Counting())
    assert trainer.history["device/memory_allocated_bytes"] == [5.0, 5.0]
    assert not [key for key in trainer.history if key.startswith("cpu/")]


def test_statistics_of_all_devices_of_one_process(fit):
    """Under ``dp`` the process of rank 0 has all of them; those of the CPU are one."""

    class Several(Accelerator):
        def device(self, index):
            return torch.device("cpu", index)

        def stats(self, device):
            return {"memory_allocated_bytes": 5.0 + device.index}

    options = {"strategy": "dp", "devices": [2, 0, 1], "logger": Logger(), "log_every_n_steps": 4}
    trainer = fit(DeviceStatsMonitor(cpu_stats=False), accelerator=Several(), **options)
    keys = [f"device/{index}/memory_allocated_bytes" for index in (2, 0, 1)]
    assert [key for key in trainer.history if key.startswith("device/")] == keys
    assert [trainer.history[key] for key in keys] == [[7.0, 7.0], [5.0, 5.0], [6.0, 6.0]]
    trainer = fit(DeviceStatsMonitor(cpu_stats=False), **options)
    assert len(trainer.history["device/memory_rss_bytes"]) == 2


def test_statistics_without_a_logger_or_psutil(fit, monkeypatch, refusal):
    assert refusal(ValueError, fit, DeviceStatsMonitor()) == (
        "DeviceStatsMonitor has no logger to give statistics to; pass Trainer(logger='csv') or another one, or leave out "
        "the callback"
    )
    assert (
        refusal(TypeError, DeviceStatsMonitor, "yes")
        == "DeviceStatsMonitor(cpu_stats='yes'): expected True or False, got str 'yes'"
    )
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert refusal(ImportError, DeviceStatsMonitor, True) == (
        "DeviceStatsMonitor needs psutil for the processors, which is not installed; run: "
        'pip install "leyden-callbacks[psutil]", or pass cpu_stats=False'
    )
