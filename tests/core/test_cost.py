"""What the library costs beside the user's step: frames, calls, device reads, collectives, modules, tensors.

Everything here is counted, so that a slow machine changes nothing; ``pytest -s`` shows the counts.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import leyden
import pytest
import torch
from leyden.metrics.store import Metrics
from leyden.testing import RandomData, TinyModule
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

LOG_EVERY = 50
OURS = ("leyden", "leyden_accelerators", "leyden_callbacks", "leyden_loggers", "leyden_precision", "leyden_strategies")
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
EVERYTHING = {
    "logger": ["tensorboard", "csv"],
    "callbacks": ["learning_rate_monitor", {"early_stopping": {"monitor": "loss"}}],
    "enable_checkpointing": True,
    "enable_progress_bar": True,
    "enable_model_summary": True,
}


class Watched(TinyModule):
    """Calls ``watch(batch_idx)`` at the start of every step; logs as much as one usually does, or nothing."""

    watch: Callable[[int], object]
    logs: bool

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.watch(batch_idx)
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        if self.logs:
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def watched(cls: type[Watched], watch: Callable[[int], object], *, logs: bool) -> Watched:
    module = cls()  # what a test hands in is no hyperparameter
    module.watch, module.logs = watch, logs
    return module


def train(watch: Callable[[int], object], batches: int, *, logs: bool, **options: Any) -> leyden.Trainer:
    """Trains an epoch, or ``max_epochs``; validation is there but comes after the last batch."""
    trainer = leyden.Trainer(**{"accelerator": "cpu", "max_epochs": 1, "log_every_n_steps": LOG_EVERY, **options})
    trainer.fit(watched(Watched, watch, logs=logs), DataLoader(RandomData(2 * batches), batch_size=2))
    return trainer


both = pytest.mark.parametrize(
    ("options", "logs"), [pytest.param(QUIET, False, id="quiet"), pytest.param(EVERYTHING, True, id="everything")]
)


# ---- frames ----


@both
def test_at_most_5_frames_lie_between_fit_and_the_training_step(options: dict[str, Any], logs: bool) -> None:
    between: list[str] = []

    def watch(_: int) -> None:
        if between:
            return
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code is not leyden.Trainer.fit.__code__:
            between.append(frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name)
            frame = frame.f_back

    train(watch, 2, logs=logs, **options)
    print(f"\nframes between fit and training_step: {len(between)}: {' < '.join(between)}")
    assert 0 < len(between) <= 5, between


# ---- calls ----


def package_directories() -> tuple[str, ...]:
    found = [importlib.util.find_spec(name) for name in OURS]
    return tuple(f"{Path(spec.origin).parent}/" for spec in found if spec is not None and spec.origin is not None)


@pytest.mark.parametrize(
    ("options", "logs", "most"),
    [pytest.param(QUIET, False, 40, id="quiet"), pytest.param(EVERYTHING, True, 120, id="everything")],
)
def test_a_batch_costs_few_python_calls(options: dict[str, Any], logs: bool, most: int) -> None:
    ours = package_directories()
    calls: Counter[str] = Counter()
    at_start: dict[int, Counter[str]] = {}

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith((*ours, "<leyden")):
            calls[f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"] += 1

    def watch(batch_idx: int) -> None:
        sys.setprofile(None)
        at_start[batch_idx] = Counter(calls)
        sys.setprofile(count)

    try:
        train(watch, 3 * LOG_EVERY, logs=logs, **options)
    finally:
        sys.setprofile(None)
    first, last = LOG_EVERY // 2, 5 * LOG_EVERY // 2  # two log points are inside
    spent = at_start[last] - at_start[first]
    per_batch = sum(spent.values()) / (last - first)
    between = at_start[LOG_EVERY + 11] - at_start[LOG_EVERY + 10]
    print(f"\nown calls: {per_batch:.2f} a batch over two log intervals, {sum(between.values())} on a batch between log points")
    print("  " + ", ".join(f"{name} {number}" for name, number in between.most_common()))
    assert 0 < per_batch <= most


# ---- device reads and collectives ----

READING_METHODS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__")
COLLECTIVES = (
    "all_reduce", "all_gather", "all_gather_object", "all_gather_into_tensor", "broadcast", "broadcast_object_list", "reduce",
    "reduce_scatter", "gather", "gather_object", "scatter", "barrier", "all_to_all", "send", "recv",
)  # fmt: skip


class Reads(TorchDispatchMode):
    """Counts the operation that hands a number from the device to Python."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.counts["aten::_local_scalar_dense"] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def counting_reads(counts: Counter[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Counts every way in which a tensor's value reaches Python; some of them pass by the dispatcher on the CPU."""

    def counted(name: str) -> Any:
        original = getattr(Tensor, name)

        def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return original(self, *args, **kwargs)

        return method

    with monkeypatch.context() as patch, Reads(counts):
        for name in READING_METHODS:
            patch.setattr(Tensor, name, counted(name))
        yield


def reads_by_batch(monkeypatch: pytest.MonkeyPatch, *, logs: bool, **options: Any) -> dict[int, Counter[str]]:
    """What was read between the start of each batch and that of the next."""
    counts: Counter[str] = Counter()
    at_start: dict[int, Counter[str]] = {}

    def watch(batch_idx: int) -> None:
        at_start[batch_idx] = Counter(counts)

    with counting_reads(counts, monkeypatch):
        train(watch, 3 * LOG_EVERY, logs=logs, **options)
    return {index: at_start[index + 1] - at_start[index] for index in range(len(at_start) - 1)}


def is_log_point(batch_idx: int) -> bool:
    return (batch_idx + 1) % LOG_EVERY == 0


@pytest.fixture
def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has values in the host's memory treated as those of a device, which a log() must not read."""
    monkeypatch.setattr(Metrics, "defers", True)


@both
def test_no_operation_reads_a_value_between_two_log_points(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], logs: bool
) -> None:
    reads = reads_by_batch(monkeypatch, logs=logs, **options)
    between = sum((found for index, found in reads.items() if not is_log_point(index)), Counter())
    assert between["aten::_local_scalar_dense"] == 0
    assert set(between) <= {"tolist"}  # log() takes what is in the host's memory, which waits for nothing


@both
def test_nothing_is_read_from_a_device_between_two_log_points(
    monkeypatch: pytest.MonkeyPatch, as_on_a_device: None, options: dict[str, Any], logs: bool
) -> None:
    reads = reads_by_batch(monkeypatch, logs=logs, **options)
    at_log_points = {index: dict(found) for index, found in reads.items() if is_log_point(index)}
    print(f"\nreads at log points: {at_log_points}")
    assert {index: found for index, found in reads.items() if found and not is_log_point(index)} == {}


def test_a_log_point_reads_everything_in_one_copy(monkeypatch: pytest.MonkeyPatch, as_on_a_device: None) -> None:
    class Several(Watched):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            for index in range(5):
                self.log(f"value_{index}", loss * index, prog_bar=True)
            return loss

    counts: Counter[str] = Counter()
    at_start: list[Counter[str]] = []
    trainer = leyden.Trainer(**{**QUIET, "logger": ["csv"]}, accelerator="cpu", max_epochs=1, log_every_n_steps=2)
    with counting_reads(counts, monkeypatch):
        module = watched(Several, lambda _: at_start.append(Counter(counts)), logs=True)
        trainer.fit(module, DataLoader(RandomData(8), batch_size=2))
    assert at_start[1] == at_start[0]
    assert sum((at_start[2] - at_start[1]).values()) == 1


def test_reads_are_noticed_when_a_callback_does_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reading(leyden.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 3:
                float(outputs["loss"])
                outputs["loss"].tolist()

    reads = reads_by_batch(monkeypatch, logs=False, **QUIET, callbacks=[Reading()])
    assert reads[3] == {"__float__": 1, "aten::_local_scalar_dense": 1, "tolist": 1}
    assert not any(found for index, found in reads.items() if index != 3)


@both
def test_a_single_device_uses_no_collective(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], logs: bool) -> None:
    called: list[str] = []
    for name in COLLECTIVES:
        monkeypatch.setattr(torch.distributed, name, lambda *_, name=name, **__: called.append(name))
    train(lambda _: None, 2 * LOG_EVERY, logs=logs, **options)
    assert called == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both
def test_a_cuda_device_is_never_waited_for_between_two_log_points(options: dict[str, Any], logs: bool) -> None:
    def watch(batch_idx: int) -> None:
        # The batch before a log point ends with a read, and the last one with the epoch's.
        next_reads = is_log_point(batch_idx) or batch_idx < 2
        torch.cuda.set_sync_debug_mode("default" if next_reads else "error")

    trainer = leyden.Trainer(accelerator="cuda", devices=1, max_epochs=1, log_every_n_steps=LOG_EVERY, **options)
    loader = DataLoader(RandomData(2 * 3 * LOG_EVERY), batch_size=2, pin_memory=True)
    try:
        trainer.fit(watched(Watched, watch, logs=logs), loader)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.global_step == 3 * LOG_EVERY


# ---- memory ----


def test_no_tensor_of_one_epoch_lives_on_in_the_next() -> None:
    alive: list[int] = []

    class Counting(leyden.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            gc.collect()
            alive.append(sum(issubclass(type(found), Tensor) for found in gc.get_objects()))

    options = {**EVERYTHING, "callbacks": [Counting(), "learning_rate_monitor"]}
    train(lambda _: None, 4, logs=True, **options, max_epochs=6, limit_val_batches=2)
    print(f"\ntensors alive at the start of each epoch: {alive}")
    assert len(alive) == 6
    assert len(set(alive[2:])) == 1


def test_no_batch_is_alive_when_the_next_one_is_read() -> None:
    batches: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    class Data(Dataset[tuple[Tensor, Tensor]]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            alive.append(sum(batch() is not None for batch in batches))
            x = torch.randn(2, 8)
            batches.append(weakref.ref(x))
            return x, torch.zeros(2, dtype=torch.long)

    trainer = leyden.Trainer(accelerator="cpu", max_epochs=1, limit_val_batches=0, **QUIET)
    trainer.fit(watched(Watched, lambda _: None, logs=True), DataLoader(Data(), batch_size=None))
    assert alive == [0] * 6


# ---- import ----

IMPORT = """
import json, os, sys, threading
def children():
    return [line for task in os.listdir("/proc/self/task") for line in open(f"/proc/self/task/{task}/children").read().split()]
import torch
before, threads = set(sys.modules), len(os.listdir("/proc/self/task"))
import leyden
print(json.dumps({
    "added": sorted(set(sys.modules) - before),
    "threads": [threads, len(os.listdir("/proc/self/task"))],
    "python_threads": threading.active_count(),
    "children": children(),
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    """What ``import leyden`` does to a fresh process that has imported torch."""
    result = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_importing_leyden_loads_only_core_what_core_depends_on_and_the_standard_library(imported: dict[str, Any]) -> None:
    tops = Counter(name.partition(".")[0] for name in imported["added"])
    print(f"\nimport leyden adds {len(imported['added'])} modules to import torch: {dict(tops.most_common())}")
    foreign = {
        name for name in tops if name not in ("leyden", "pluggy", "fsspec", "torch") and name not in sys.stdlib_module_names
    }
    assert foreign == set()


def test_importing_leyden_loads_no_part_of_torch_that_torch_does_not_load_itself(imported: dict[str, Any]) -> None:
    assert [name for name in imported["added"] if name.startswith("torch.")] == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_importing_leyden_starts_no_thread_and_no_process(imported: dict[str, Any]) -> None:
    before, after = imported["threads"]
    assert after == before
    assert imported["python_threads"] == 1
    assert imported["children"] == []
