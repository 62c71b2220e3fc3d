"""PyTorchProfiler: the traces it writes, and who can read them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from leyden.testing import RandomData, TinyModule, run_ranks
from leyden_profilers import PyTorchProfiler
from torch.utils.data import DataLoader


def batches(count: int) -> DataLoader[Any]:
    return DataLoader(RandomData(4 * count), batch_size=4)


def ranges(path: Path) -> Counter[str]:
    """How often each range of ours, and each step of torch's, is in a trace."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    events = json.loads(text)["traceEvents"]
    names = [event["name"] for event in events if event.get("ph") == "X"]
    return Counter(name for name in names if name.startswith(("[", "ProfilerStep", "my ")))


class Blocked(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with self.trainer.profiler.profile("my block"):
            return super().training_step(batch, batch_idx)


def test_a_trace_has_a_range_for_each_phase_of_the_steps_it_records(quiet, tmp_path):
    trainer = quiet({"pytorch": {"dirpath": tmp_path / "traces"}}, limit_val_batches=0, log_every_n_steps=1)
    trainer.fit(Blocked(), batches(8))
    (trace,) = (tmp_path / "traces").iterdir()
    assert trainer.profiler.traces == [trace]
    assert trace.name.endswith(".pt.trace.json")
    assert ranges(trace) == {
        "ProfilerStep#2": 1, "ProfilerStep#3": 1, "ProfilerStep#4": 1,
        "[Data]train.fetch": 3,
        "[Module]Blocked.training_step": 3,
        "my block": 3,
        "[Log]log": 3,
        "[Step]zero_grad": 3,
        "[Step]backward": 3,
        "[Step]optimizer_step": 3,
        "[Log]read": 3,
        "[Log]record": 3,
    }  # fmt: skip


def test_operations_lie_inside_the_ranges_of_their_phase(quiet, tmp_path):
    quiet({"pytorch": {"dirpath": tmp_path}}).fit(TinyModule(), batches(8))
    (trace,) = tmp_path.glob("*.json")
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("ph") == "X"]
    steps = [event for event in events if event["name"] == "[Module]TinyModule.training_step"]
    losses = [event for event in events if event["name"] == "aten::cross_entropy_loss"]
    inside = [
        loss for loss in losses for step in steps
        if step["ts"] <= loss["ts"] and loss["ts"] + loss["dur"] <= step["ts"] + step["dur"]
    ]  # fmt: skip
    assert len(inside) == 3


def test_steps_are_counted_across_epochs_and_the_end_of_an_epoch_is_none(quiet, tmp_path):
    options = {"dirpath": tmp_path, "wait": 3, "warmup": 1, "active": 2}
    trainer = quiet({"pytorch": options}, max_epochs=3, limit_val_batches=0)
    trainer.fit(TinyModule(), batches(2))
    (trace,) = trainer.profiler.traces
    found = ranges(trace)
    assert [name for name in found if name.startswith("ProfilerStep")] == ["ProfilerStep#4", "ProfilerStep#5"]
    assert found["[Module]TinyModule.training_step"] == 2


@pytest.mark.parametrize(
    ("options", "count"), [({"repeat": 1}, 1), ({"repeat": 2}, 2), ({"repeat": 0}, 3), ({"repeat": 0, "skip_first": 4}, 2)]
)
def test_each_cycle_writes_a_trace(quiet, tmp_path, options, count):
    trainer = quiet({"pytorch": {"dirpath": tmp_path, "wait": 1, "warmup": 1, "active": 2, **options}}, limit_val_batches=0)
    trainer.fit(TinyModule(), batches(12))
    assert len(trainer.profiler.traces) == len(list(tmp_path.glob("*.pt.trace.json"))) == count


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_every_stage_can_be_traced(quiet, tmp_path, stage):
    trainer = quiet({"pytorch": {"dirpath": tmp_path, "wait": 0, "active": 1}})
    getattr(trainer, stage)(TinyModule(), batches(4), **({} if stage == "predict" else {"verbose": False}))
    (trace,) = trainer.profiler.traces
    step = {"validate": "validation"}.get(stage, stage)
    assert ranges(trace)[f"[Module]TinyModule.{step}_step"] == 1


def test_a_compressed_trace_is_one_too(quiet, tmp_path):
    trainer = quiet({"pytorch": {"dirpath": tmp_path, "use_gzip": True}})
    trainer.fit(TinyModule(), batches(8))
    (trace,) = trainer.profiler.traces
    assert trace.name.endswith(".pt.trace.json.gz")
    assert ranges(trace)["[Module]TinyModule.training_step"] == 3


def test_a_failed_run_leaves_the_trace_up_to_the_failure(quiet, tmp_path):
    class Failing(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 3:
                raise RuntimeError("no more")
            return super().training_step(batch, batch_idx)

    trainer = quiet({"pytorch": {"dirpath": tmp_path}})
    with pytest.raises(RuntimeError, match="no more"):
        trainer.fit(Failing(), batches(8))
    (trace,) = trainer.profiler.traces
    name = "[Module]test_a_failed_run_leaves_the_trace_up_to_the_failure.<locals>.Failing.training_step"
    assert ranges(trace)[name] == 2


def test_each_process_knows_the_traces_that_it_wrote(quiet, tmp_path):
    def train(environment):
        options = {"dirpath": tmp_path / "traces", "wait": 0, "active": 1, "repeat": 0}
        trainer = quiet({"pytorch": options}, environment=environment, devices=2, strategy="ddp")
        trainer.fit(TinyModule(), batches(24))
        return [path.name for path in trainer.profiler.traces]

    first, second = run_ranks(train)
    assert len(first) == len(second) == 6
    assert sorted(first + second) == sorted(path.name for path in (tmp_path / "traces").iterdir())


def test_the_summary_has_phases_and_operations(quiet, capsys):
    trainer = quiet("pytorch")
    trainer.fit(TinyModule(), batches(8))
    printed = capsys.readouterr()
    assert printed.out == trainer.profiler.summary() + "\n"
    header, _, *rows = printed.out.splitlines()
    assert header.split() == ["fit", "calls", "cpu", "ms", "mean", "us"]
    assert ["[Module]TinyModule.training_step", "3"] in [row.split()[:2] for row in rows]
    assert "aten::addmm" in printed.out
    assert printed.err.endswith(f"leyden: 1 trace(s) written to {trainer.default_root_dir}\n")


def test_a_run_that_is_too_short_is_told(quiet, capfd):
    trainer = quiet("pytorch")
    trainer.fit(TinyModule(), batches(2))
    assert capfd.readouterr().err.endswith(
        "leyden: PyTorchProfiler recorded nothing: fit took 2 step(s), and it records from step 3 on; lower wait, warmup or "
        "skip_first\n"
    )
    assert trainer.profiler.summary() == ""


def test_the_pytorch_profiler_page_of_tensorboard_reads_the_trace(quiet, tmp_path):
    pytest.importorskip("torch_tb_profiler")
    from torch_tb_profiler import io
    from torch_tb_profiler.profiler.loader import RunLoader

    quiet({"pytorch": {"dirpath": tmp_path}}).fit(TinyModule(), batches(8))
    run = RunLoader("fit", str(tmp_path), io.Cache()).load()
    assert [view.display_name for view in run.views] == ["Overview", "Operator", "Trace"]
    (profile,) = run.profiles.values()
    steps = [row[0] for row in profile.overview["steps"]["rows"]]
    assert steps == ["2", "3", "4"]
    operators = {row["name"]: row["calls"] for row in profile.operation_table_by_name["data"]}
    assert operators["aten::cross_entropy_loss"] == 3


def test_importing_the_profilers_loads_neither_tensorboard_nor_its_page():
    import subprocess
    import sys

    code = "import leyden_profilers, sys; print([n for n in ('tensorboard', 'torch_tb_profiler', 'pandas') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"active": 0}, ValueError, "PyTorchProfiler(active=0): expected an int of at least 1, got int 0"),
        ({"wait": -1}, ValueError, "PyTorchProfiler(wait=-1): expected an int of at least 0, got int -1"),
        ({"warmup": 1.0}, TypeError, "PyTorchProfiler(warmup=1.0): expected an int of at least 0, got float 1.0"),
        ({"repeat": True}, TypeError, "PyTorchProfiler(repeat=True): expected an int of at least 0, got bool True"),
        ({"activities": "cpu"}, TypeError, "PyTorchProfiler(activities='cpu'): expected a list such as ['cpu'], got str 'cpu'"),
    ],
)
def test_arguments_are_checked(options, error, message):
    with pytest.raises(error) as caught:
        PyTorchProfiler(**options)
    assert str(caught.value) == message


def test_an_activity_that_torch_cannot_record_here_is_refused(monkeypatch):
    from torch.profiler import ProfilerActivity

    monkeypatch.setattr("leyden_profilers.pytorch.supported_activities", lambda: {ProfilerActivity.CPU})
    with pytest.raises(ValueError) as caught:
        PyTorchProfiler(activities=["cpu", "cuda"])
    assert str(caught.value) == (
        "PyTorchProfiler(activities=['cpu', 'cuda']): this torch cannot record 'cuda' here; it can record 'cpu'"
    )
