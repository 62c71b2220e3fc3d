"""What callbacks measure: throughput, spikes, waiting for data, slow ranks, memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from types import SimpleNamespace

import pytest
import torch
from leyden import Strategy, Trainer
from leyden.testing import RandomData, TinyModule, run_ranks
from leyden_callbacks import (
    DataStall,
    LambdaCallback,
    MemorySnapshot,
    ParameterMonitor,
    SlowRank,
    SpikeDetection,
    ThroughputMonitor,
    TrainingSpikeError,
)
from torch.utils.data import DataLoader


@pytest.fixture
def clock(monkeypatch):
    """The clock of these callbacks; it stands still unless a test moves it."""
    now = SimpleNamespace(seconds=100.0)
    fake = SimpleNamespace(perf_counter=lambda: now.seconds)
    for name in ("throughput", "data_stall", "slow_rank"):
        monkeypatch.setattr(f"leyden_callbacks.{name}.time", fake)
    return now


def moves(clock, seconds):
    def move(*_):
        clock.seconds += seconds

    return move


# ---- throughput ----


def test_rates_are_those_of_the_window(fit, clock):
    step = LambdaCallback(on_train_batch_start=moves(clock, 0.5), on_validation_batch_start=moves(clock, 100))
    monitor = ThroughputMonitor(length_fn=lambda batch: batch[0].numel(), window_size=3, flops_per_batch=1e9, peak_flops=1e10)
    trainer = fit(step, monitor, log_every_n_steps=2)
    history = trainer.history
    assert history.steps("throughput/samples_per_sec") == [1, 3, 5, 7]
    assert set(history["throughput/batches_per_sec"]) == {2.0}
    assert set(history["throughput/samples_per_sec"]) == {8.0}
    assert set(history["throughput/items_per_sec"]) == {64.0}
    assert set(history["throughput/flops_per_sec"]) == {2e9}
    assert history["throughput/mfu"] == pytest.approx([0.2] * 4)
    assert monitor.totals == {"batches": 8, "samples": 32, "items": 256}


def test_who_leaves_a_loop_of_ones_own_leaves_nothing_behind():
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    callbacks = [ThroughputMonitor(flops_per_batch="measure"), ParameterMonitor(activations=True)]
    module = TinyModule()
    for _ in Trainer(callbacks=callbacks, accelerator="cpu", barebones=True, log_every_n_steps=1).batches(module):
        break
    assert _get_current_dispatch_mode() is None
    assert not module.layer._forward_hooks


def test_operations_of_the_first_batch_are_counted(fit):
    monitor = ThroughputMonitor(flops_per_batch="measure")
    trained = fit(monitor, log_every_n_steps=1).module
    # Forward and the gradient of the weight, 4 samples of 8 features to 2 classes, 2 operations for a multiplication and its sum.
    assert monitor.measured_flops == 2 * (2 * 4 * 8 * 2)
    torch.manual_seed(0)
    untouched = TinyModule()
    torch.manual_seed(0)
    counted = TinyModule()
    fit(module=untouched)
    fit(ThroughputMonitor(flops_per_batch="measure"), module=counted)
    assert torch.equal(untouched.layer.weight, counted.layer.weight)
    assert trained.layer.weight.requires_grad


def test_the_module_may_know_its_operations(fit, clock):
    class Known(TinyModule):
        flops_per_batch = 500

    trainer = fit({"throughput": {}}, LambdaCallback(on_before_backward=moves(clock, 1)), module=Known(), log_every_n_steps=4)
    assert trainer.history["throughput/flops_per_sec"] == [500, 500]
    assert "throughput/mfu" not in trainer.history


def test_a_resumed_run_goes_on_counting(fit, tmp_path):
    trainer = fit(ThroughputMonitor(), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    monitor = ThroughputMonitor()
    fit(monitor, ckpt_path=str(tmp_path / "saved.ckpt"))
    assert monitor.totals == {"batches": 8, "samples": 32, "items": 0}


def test_samples_that_cannot_be_counted(fit, refusal):
    class Odd(TinyModule):
        def train_dataloader(self):
            return [{"a": torch.zeros(2), "b": torch.zeros(3)}]

        def training_step(self, batch, batch_idx):
            return self.layer.weight.sum()

    assert refusal(ValueError, fit, ThroughputMonitor(), module=Odd()) == (
        "ThroughputMonitor cannot count the samples of a batch: the tensors of the batch have different first dimensions: 2, 3; "
        "pass batch_size_fn"
    )
    monitor = ThroughputMonitor(batch_size_fn=lambda batch: 5)
    fit(monitor, module=Odd())
    assert monitor.totals["samples"] == 10


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"window_size": 1}, ValueError, "ThroughputMonitor(window_size=1): expected an int of at least 2, got int 1"),
        ({"length_fn": 3}, TypeError, "ThroughputMonitor(length_fn=3): expected a function of the batch, got int 3"),
        ({"flops_per_batch": "count"}, ValueError,
         "ThroughputMonitor(flops_per_batch='count'): expected 'measure', a number or a function"),
        ({"peak_flops": 0}, ValueError, "ThroughputMonitor(peak_flops=0): expected a number of at least 1, got int 0"),
    ],
)  # fmt: skip
def test_wrong_throughput(options, kind, message, refusal):
    assert refusal(kind, ThroughputMonitor, **options) == message


def test_operations_of_compiled_steps(fit, refusal):
    assert refusal(ValueError, fit, ThroughputMonitor(flops_per_batch="measure"), compile=True) == (
        "ThroughputMonitor(flops_per_batch='measure') cannot look into compiled steps; pass the number, measured without "
        "Trainer(compile=...)"
    )


# ---- spike_detection ----


class Losses(TinyModule):
    """Has the given losses, four batches an epoch."""

    def __init__(self, *losses):
        super().__init__()
        self.losses = losses

    def training_step(self, batch, batch_idx):
        return (self.layer.weight.sum() + self.layer.bias.sum()) * 0 + self.losses[self.current_epoch * 4 + batch_idx]


def test_a_spike_ends_training_and_its_batch_is_written_down(fit, tmp_path, refusal):
    module = Losses(1, 1.1, 0.9, 1, 1, 50, 1, 1)
    with pytest.raises(TrainingSpikeError) as error:
        fit({"spike_detection": {}}, module=module, log_every_n_steps=2)
    assert str(error.value) == (
        "the loss of batch 1 of epoch 1 was 50; the mean before was 1; SpikeDetection(action='warn') only says so"
    )
    assert error.value.batches == [{"epoch": 1, "batch_idx": 1, "loss": 50.0}]
    assert json.loads((tmp_path / "skip_batches.json").read_text()) == error.value.batches


def test_it_may_say_so_only_or_stop(fit, tmp_path, capsys):
    losses = (1, 1, float("nan"), 1, 1, 50, 1, 1)
    spikes = SpikeDetection(action="warn", exclude_batches_path=tmp_path / "folder" / "bad.json")
    assert fit(spikes, module=Losses(*losses), log_every_n_steps=1).global_step == 8
    assert [(spike["epoch"], spike["batch_idx"]) for spike in spikes.spikes] == [(0, 2), (1, 1)]
    assert json.loads((tmp_path / "folder" / "bad.json").read_text()) == [
        {"epoch": 0, "batch_idx": 2, "loss": "nan"}, {"epoch": 1, "batch_idx": 1, "loss": 50.0}
    ]  # fmt: skip
    assert "leyden: the loss of batch 1 of epoch 1 was 50; the mean before was 1\n" in capsys.readouterr().err
    assert fit(SpikeDetection(action="stop"), module=Losses(*losses), log_every_n_steps=1).global_step == 3
    assert "was nan; the mean before was 1; training stops\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "losses", "found"),
    [
        ({"finite_only": False}, (1, 1, float("inf"), 1), []),
        ({"rtol": 0, "atol": 5}, (1, 5, 9, 1), [2]),
        ({"mode": "max", "rtol": 0.5}, (4, 4, 1, 4), [2]),
        ({"warmup": 3, "rtol": 0.5}, (1, 9, 1, 9), [3]),
    ],
)
def test_what_is_a_spike(fit, options, losses, found):
    spikes = SpikeDetection(action="warn", **options)
    fit(spikes, module=Losses(*losses), max_epochs=1)
    assert [spike["batch_idx"] for spike in spikes.spikes] == found


def test_losses_are_read_at_log_points_only(fit):
    read = []
    spikes = SpikeDetection()
    usual = spikes._read
    spikes._read = lambda: (read.append(len(spikes._unread)), usual())
    fit(spikes, module=Losses(*[1] * 8), log_every_n_steps=3)
    assert read == [3, 1, 2, 2]


def test_losses_are_read_once_at_a_log_point_however_many_batches_make_a_step(fit):
    read = []
    spikes = SpikeDetection()
    usual = spikes._read
    spikes._read = lambda: (read.append(len(spikes._unread)), usual())
    fit(spikes, module=Losses(*[1] * 8), log_every_n_steps=3, accumulate_grad_batches=2)
    assert read == [3, 1, 2, 2]


def test_a_resumed_run_knows_the_mean(fit, tmp_path):
    trainer = fit(SpikeDetection(), module=Losses(4, 4, 4, 4), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    with pytest.raises(TrainingSpikeError):
        fit(SpikeDetection(), module=Losses(*[4] * 4, 50, 1, 1, 1), ckpt_path=str(tmp_path / "saved.ckpt"))


def test_a_spike_that_a_checkpoint_knew_before_it_was_told_is_told_after_a_resume(fit, tmp_path):
    save = LambdaCallback(on_train_batch_end=lambda trainer: trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt"))
    with pytest.raises(TrainingSpikeError, match="batch 1 of epoch 0 was 50"):
        fit(SpikeDetection(), save, module=Losses(4, 50, 4, 4))
    with pytest.raises(TrainingSpikeError, match="batch 1 of epoch 0 was 50"):
        fit(SpikeDetection(), module=Losses(4, 50, 4, 4), ckpt_path=str(tmp_path / "3.ckpt"))


def test_losses_of_optimizers_that_take_turns_are_refused(fit, refusal):
    class Turns(TinyModule):
        def training_step(self, batch, batch_idx, optimizer_idx):
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            return [torch.optim.SGD([parameter], lr=0.1) for parameter in self.parameters()]

    assert refusal(ValueError, fit, SpikeDetection(), module=Turns()) == (
        "SpikeDetection compares the loss of each batch with those before, but Turns has 2 losses a batch, one for each "
        "optimizer's turn; leave it out"
    )


def test_processes_look_at_the_same_moments_where_one_has_losses_of_few_batches(tmp_path):
    class Manual(TinyModule):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            return torch.tensor(50.0 if batch_idx == 7 else 1.0) if batch_idx % 2 or self.global_rank == 0 else None

    def train(environment):
        spikes = SpikeDetection(action="warn")
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
        quiet |= {"accelerator": "cpu", "max_epochs": 1, "log_every_n_steps": 5, "default_root_dir": tmp_path}
        trainer = Trainer(environment=environment, devices=2, strategy="ddp", callbacks=[spikes], **quiet)
        trainer.fit(Manual(), DataLoader(RandomData(64), batch_size=4))
        return [spike["batch_idx"] for spike in spikes.spikes]

    assert run_ranks(train, seconds=20) == [[7], [7]]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"mode": "mni"}, ValueError, "SpikeDetection(mode='mni'): expected 'min' or 'max'; did you mean 'min'?"),
        ({"window": 0}, ValueError, "SpikeDetection(window=0): expected an int of at least 1, got int 0"),
        ({"rtol": -1}, ValueError, "SpikeDetection(rtol=-1): expected a number of at least 0, got int -1"),
        ({"action": "ignore"}, ValueError, "SpikeDetection(action='ignore'): expected 'raise', 'stop' or 'warn'"),
        ({"exclude_batches_path": 3}, TypeError, "SpikeDetection(exclude_batches_path=3): expected a path, got int 3"),
    ],
)
def test_wrong_spikes(options, kind, message, refusal):
    assert refusal(kind, SpikeDetection, **options) == message


# ---- data_stall ----


class Delayed(TinyModule):
    """Whose training data calls ``wait`` for each sample."""

    def __init__(self, wait):
        super().__init__()
        self.wait = wait

    def train_dataloader(self):
        class Data(RandomData):
            def __getitem__(data, index):
                self.wait()
                return super().__getitem__(index)

        return DataLoader(Data(16), batch_size=4)


def test_the_share_of_waiting_is_recorded_and_said_once(fit, clock, capsys):
    work = LambdaCallback(on_before_backward=moves(clock, 1), on_validation_batch_start=moves(clock, 100))
    trainer = fit({"data_stall": {}}, work, module=Delayed(moves(clock, 0.75)), log_every_n_steps=2, max_epochs=3)
    assert trainer.history["data_stall/share"] == pytest.approx([0.75] * 6)
    assert trainer.history["data_stall/seconds_per_batch"] == [3.0] * 6
    assert capsys.readouterr().err.count(
        "leyden: 75% of the last 2 batches was waiting for data, 3000.0 ms a batch; give the DataLoader more num_workers, "
        "or do less for each sample\n"
    ) == 1  # fmt: skip


def test_the_share_is_that_since_the_last_log_point_however_many_batches_make_a_step(fit, clock):
    work = LambdaCallback(
        on_before_backward=lambda trainer, module: moves(clock, 1 + 7 * (trainer.progress.total_batches == 2))()
    )
    trainer = fit(
        DataStall(), work, module=Delayed(moves(clock, 0.25)), log_every_n_steps=1, accumulate_grad_batches=2, max_epochs=1
    )
    assert trainer.history["data_stall/share"] == pytest.approx([0.5, 2 / 11])


def test_the_profiler_of_the_run_goes_on_beside_it(fit, tmp_path):
    from leyden_profilers import SimpleProfiler

    profiler = SimpleProfiler(dirpath=tmp_path)
    trainer = fit(DataStall(), profiler=profiler)
    assert trainer.profiler is profiler
    assert profiler.records["[Data]train.fetch"].calls == 10  # 8 batches and 2 ends


def test_a_real_slow_loader_is_seen(fit):
    trainer = fit(DataStall(warn_above=1), module=Delayed(lambda: time.sleep(0.005)), log_every_n_steps=4)
    assert min(trainer.history["data_stall/seconds_per_batch"]) >= 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warn_above": 1.5}, "DataStall(warn_above=1.5): expected a share from 0 to 1"),
        ({"warmup": -1}, "DataStall(warmup=-1): expected an int of at least 0, got int -1"),
    ],
)
def test_wrong_stalls(options, message, refusal):
    assert refusal(ValueError, DataStall, **options) == message


# ---- slow_rank ----


class TwoRanks(Strategy):
    """Rank 0 of two, the other taking three times as long."""

    def all_gather(self, tensor):
        return torch.stack([tensor, 3 * tensor])


def test_the_slowest_rank_is_named(fit, clock, capsys):
    slow = SlowRank(every_n_steps=2)
    work = LambdaCallback(on_train_batch_start=moves(clock, 1), on_after_backward=moves(clock, 50))
    trainer = fit(slow, work, strategy=TwoRanks(), log_every_n_steps=1)
    assert (slow.rank, slow.ratio) == (1, 3.0)
    assert trainer.history["slow_rank/ratio"] == [3.0] * 4
    assert (
        "leyden: rank 1 took 3000.0 ms for reading and forward of a batch, 3.00 times the median: the others wait for it\n"
        in capsys.readouterr().err
    )


def test_processes_compare_themselves(tmp_path, clock):
    def train(environment):
        slow = SlowRank(every_n_steps=2)
        delay = LambdaCallback(on_train_batch_start=moves(clock, 1 + 2 * environment.rank))
        quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer = Trainer(environment=environment, devices=2, strategy="ddp", callbacks=[delay, slow], max_epochs=2,
                          enable_model_summary=False, default_root_dir=tmp_path, **quiet)  # fmt: skip
        trainer.fit(Delayed(lambda: None))
        return slow.rank, slow.ratio

    assert run_ranks(train) == [(1, 3.0), (1, 3.0)]


def test_a_second_fit_compares_anew(fit):
    slow = SlowRank(every_n_steps=4)
    assert [len(fit(slow, log_every_n_steps=4, max_epochs=1).history["slow_rank/ratio"]) for _ in range(2)] == [1, 1]


def test_alone_a_process_is_never_slow(fit, capsys):
    trainer = fit({"slow_rank": {"every_n_steps": 2}}, log_every_n_steps=2)
    assert trainer.history["slow_rank/ratio"] == [1.0] * 4
    assert "rank 0 took" not in capsys.readouterr().err


def test_wrong_ranks(refusal):
    assert refusal(ValueError, SlowRank, 0) == "SlowRank(every_n_steps=0): expected an int of at least 1, got int 0"
    assert refusal(ValueError, SlowRank, 5, 0.5) == "SlowRank(warn_above=0.5): expected a number of at least 1, got float 0.5"


# ---- memory_snapshot ----


def test_a_snapshot_is_saved_at_a_step(fit, tmp_path, capsys):
    kept = []
    snapshot = MemorySnapshot(tmp_path / "memory", at_step=3)
    fit(snapshot, LambdaCallback(on_train_batch_end=lambda: kept.append(bytearray(100_000))))
    assert snapshot.paths == [str(tmp_path / "memory" / "memory-step3-rank0.tracemalloc")]
    biggest = tracemalloc.Snapshot.load(snapshot.paths[0]).statistics("filename")[0]
    assert biggest.traceback[0].filename == __file__
    assert biggest.size >= 200_000
    assert not tracemalloc.is_tracing()
    assert "leyden: a snapshot of the memory after step 3 was saved as " in capsys.readouterr().err


def test_a_snapshot_is_saved_when_memory_runs_out(fit, tmp_path, refusal):
    snapshot = MemorySnapshot()
    allocate = LambdaCallback(on_after_backward=lambda: torch.empty(2**60))
    assert "can't allocate memory" in refusal(RuntimeError, fit, snapshot, allocate)
    assert snapshot.paths == [str(tmp_path / "memory" / "memory-step0-rank0.tracemalloc")]
    snapshot = MemorySnapshot()
    refusal(KeyError, fit, snapshot, LambdaCallback(on_after_backward=lambda: {}["no"]))
    assert snapshot.paths == []
    assert not tracemalloc.is_tracing()


def test_somebody_else_records_memory(fit, refusal):
    tracemalloc.start()
    try:
        assert refusal(RuntimeError, fit, MemorySnapshot()) == (
            "MemorySnapshot: tracemalloc is recording already; stop it, or leave out the callback"
        )
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
    assert refusal(TypeError, MemorySnapshot, 3) == "MemorySnapshot(dirpath=3): expected a path, got int 3"
    assert refusal(ValueError, MemorySnapshot, at_step=0) == "MemorySnapshot(at_step=0): expected an int of at least 1, got int 0"
