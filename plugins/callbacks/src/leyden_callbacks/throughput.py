"""Records how much a run trains on in a second, and how well it uses the device."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.data.batch_size import UnknownBatchSize, batch_size_of
from leyden.messages import shown

from leyden_callbacks.arguments import check_int, check_number
from leyden_callbacks.log_points import LogPoints

if TYPE_CHECKING:
    from leyden import Module, Trainer

# Dense matrix multiplications with 16-bit inputs, in FLOPs a second, from the makers' data sheets.
PEAK_16_BIT = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "T4": 65e12,
    "V100": 125e12,
}


class ThroughputMonitor(Callback):
    """Records samples, items and floating-point operations a second, as a mean over the last batches, at each log point.

    The keys are ``throughput/batches_per_sec``, ``throughput/samples_per_sec``, with ``length_fn`` also
    ``throughput/items_per_sec``, and where the operations of a batch are known ``throughput/flops_per_sec`` and
    ``throughput/mfu``, the share of the device's peak. All are of the whole run: this process's times the number of
    processes, save ``mfu``. Validation is left out. On a GPU, where work is queued, a mean over a window is right though
    nothing is waited for.

    Args:
        batch_size_fn: the number of samples of a batch; found as for ``self.log`` if not given.
        length_fn: the number of items, such as tokens, of a batch.
        window_size: batches to take the mean of.
        flops_per_batch: the operations of forward and backward on a batch of this process; a function of the batch;
            ``"measure"`` counts those of the first batch with torch's counter, which sees matrix products, convolutions and
            attention. None takes the module's ``flops_per_batch``, if it has one.
        peak_flops: the operations a second that the device can do at most; None takes that of known GPUs in 16 bits.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "throughput"

    def __init__(
        self,
        batch_size_fn: Callable[[Any], int] | None = None,
        length_fn: Callable[[Any], int] | None = None,
        window_size: int = 100,
        flops_per_batch: float | Callable[[Any], float] | str | None = None,
        peak_flops: float | None = None,
    ) -> None:
        owner = type(self).__name__
        for argument, function in (("batch_size_fn", batch_size_fn), ("length_fn", length_fn)):
            if function is not None and not callable(function):
                raise TypeError(f"{owner}({argument}={function!r}): expected a function of the batch, got {shown(function)}")
        check_int(owner, "window_size", window_size, 2)
        if isinstance(flops_per_batch, str) and flops_per_batch != "measure":
            raise ValueError(f"{owner}(flops_per_batch={flops_per_batch!r}): expected 'measure', a number or a function")
        if not (flops_per_batch is None or isinstance(flops_per_batch, str) or callable(flops_per_batch)):
            check_number(owner, "flops_per_batch", flops_per_batch, 0)
        if peak_flops is not None:
            check_number(owner, "peak_flops", peak_flops, 1)
        self.batch_size_fn = batch_size_fn
        self.length_fn = length_fn
        self.window_size = window_size
        self.flops_per_batch = flops_per_batch
        self.peak_flops = peak_flops
        self.measured_flops: int | None = None
        """What ``"measure"`` counted in the first batch."""
        self.totals = {"batches": 0, "samples": 0, "items": 0}
        """All that the run trained on, in all processes, earlier parts of a resumed run included."""
        self._window: deque[tuple[float, int, int, float]] = deque()
        self._paused = 0.0
        self._pause_began: float | None = None
        self._counter: Any = None
        self._log_points = LogPoints()
        self._peak: float | None = None

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """What the run trained on so far."""
        return {"totals": dict(self.totals), "measured_flops": self.measured_flops}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting from there."""
        self.totals = {key: int(value) for key, value in state_dict["totals"].items()}
        self.measured_flops = state_dict["measured_flops"]

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """A fit starts anew; one that goes on from a checkpoint gets its state after this.

        Raises:
            ValueError: the operations of a compiled step are to be measured.
        """
        if stage != "fit":
            return
        if self.flops_per_batch == "measure" and trainer.compile_options is not None:
            raise ValueError(
                f"{type(self).__name__}(flops_per_batch='measure') cannot look into compiled steps; pass the number, measured "
                f"without Trainer(compile=...)"
            )
        self.totals = dict.fromkeys(self.totals, 0)
        self.measured_flops = None

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Begins a window."""
        self._log_points.start(trainer)
        self._window.clear()
        self._window.append((time.perf_counter(), 0, 0, 0.0))
        self._paused, self._pause_began = 0.0, None
        self._peak = self.peak_flops
        if self._peak is None and trainer.strategy.device.type == "cuda":
            device = torch.cuda.get_device_name(trainer.strategy.device)
            self._peak = next((peak for known, peak in PEAK_16_BIT.items() if known in device), None)

    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> None:
        """Counts the operations of the first batch, if asked."""
        if self.flops_per_batch == "measure" and self.measured_flops is None:
            from torch.utils.flop_counter import FlopCounterMode  # imports much, and few runs ask

            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the batch; records at log points."""
        if self._counter is not None:
            self._stop_counter()
        _, samples, items, flops = self._window[-1]
        size = self._samples(trainer, batch)
        length = self.length_fn(batch) if self.length_fn is not None else 0
        now = time.perf_counter() - self._paused
        self._window.append((now, samples + size, items + length, flops + self._flops(module, batch)))
        if len(self._window) > self.window_size + 1:
            self._window.popleft()
        totals, world_size = self.totals, trainer.world_size
        totals["batches"] += world_size
        totals["samples"] += size * world_size
        totals["items"] += length * world_size
        if self._log_points.is_reached(trainer):
            module.log_dict(self.rates(trainer.world_size), on_step=True, on_epoch=False, batch_size=1)

    def rates(self, world_size: int = 1) -> dict[str, float]:
        """What was done in a second, by key, as a mean over the window."""
        (start, *before), (end, *after) = self._window[0], self._window[-1]
        seconds = end - start
        if seconds <= 0:
            return {}
        samples, items, flops = ((b - a) / seconds for a, b in zip(before, after, strict=True))
        found = {
            "throughput/batches_per_sec": (len(self._window) - 1) / seconds * world_size,
            "throughput/samples_per_sec": samples * world_size,
        }
        if self.length_fn is not None:
            found["throughput/items_per_sec"] = items * world_size
        if flops:
            found["throughput/flops_per_sec"] = flops * world_size
            if self._peak:
                found["throughput/mfu"] = flops / self._peak
        return found

    def _samples(self, trainer: Trainer, batch: Any) -> int:
        if self.batch_size_fn is not None:
            return self.batch_size_fn(batch)
        known = trainer.metrics.batch_size
        if known is not None:
            return int(known)
        try:
            return batch_size_of(batch)
        except UnknownBatchSize as error:
            raise ValueError(f"{type(self).__name__} cannot count the samples of a batch: {error}; pass batch_size_fn") from None

    def _flops(self, module: Module, batch: Any) -> float:
        given: Any = self.flops_per_batch
        if given == "measure":
            return float(self.measured_flops or 0)
        if given is None:
            given = getattr(module, "flops_per_batch", None)
        if callable(given):
            counted: Any = given(batch)
            return float(counted)
        return float(given or 0)

    def _stop_counter(self) -> None:
        counter, self._counter = self._counter, None
        counter.__exit__(None, None, None)
        self.measured_flops = int(counter.get_total_flops())

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """The clock stands still."""
        self._pause_began = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """The clock goes on."""
        if self._pause_began is not None:
            self._paused += time.perf_counter() - self._pause_began
            self._pause_began = None

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Leaves no counter behind, however the run ended."""
        if self._counter is not None:
            self._stop_counter()
