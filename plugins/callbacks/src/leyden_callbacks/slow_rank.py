"""Finds the process that all others wait for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback

from leyden_callbacks.arguments import check_int, check_number
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class SlowRank(Callback):
    """Compares the time that each process spends on its own work in a step: reading the batch and the forward pass.

    Backward waits for the other processes, so it tells nothing. Every ``every_n_steps`` steps the means are gathered, with one
    collective, and ``slow_rank/ratio`` (the slowest by the median) and ``slow_rank/rank`` are recorded.

    Args:
        every_n_steps: optimizer steps between two comparisons.
        warn_above: a ratio above which it is said on standard error.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "slow_rank"

    def __init__(self, every_n_steps: int = 100, warn_above: float = 1.2) -> None:
        owner = type(self).__name__
        check_int(owner, "every_n_steps", every_n_steps, 1)
        check_number(owner, "warn_above", warn_above, 1)
        self.every_n_steps = every_n_steps
        self.warn_above = warn_above
        self.ratio = 1.0
        """The slowest process's time by the median, at the last comparison."""
        self.rank = 0
        """The slowest process."""
        self._last_step = -1
        self._begin()

    def _begin(self) -> None:
        self._own, self._batches = 0.0, 0
        self._since: float | None = None

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Begins anew."""
        self._last_step = trainer.global_step
        self._begin()

    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """An epoch's first batch is not counted: workers start, and what lies between two epochs is no step."""
        self._since = None

    def on_before_backward(self, trainer: Trainer, module: Module, loss: Any) -> None:
        """The work of its own is done."""
        if self._since is not None:
            self._own += time.perf_counter() - self._since
            self._batches += 1
            self._since = None

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Compares, when it is time; the work on the next batch begins."""
        step = trainer.global_step
        if step % self.every_n_steps == 0 and step != self._last_step and step:
            self._last_step = step
            self._compare(trainer, module)
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """The batch after a validation is not counted."""
        self._since = None

    def _compare(self, trainer: Trainer, module: Module) -> None:
        mean = self._own / self._batches if self._batches else 0.0
        means = trainer.strategy.all_gather(torch.tensor([mean], dtype=torch.float64, device=trainer.strategy.device)).flatten()
        self._begin()
        times = means.tolist()
        median = sorted(times)[(len(times) - 1) // 2]  # of two processes the faster one
        if not median:
            return
        slowest = max(times)
        self.rank, self.ratio = times.index(slowest), slowest / median
        module.log_dict(
            {"slow_rank/ratio": self.ratio, "slow_rank/rank": float(self.rank)}, on_step=True, on_epoch=False, batch_size=1
        )
        if self.ratio > self.warn_above:
            say(
                trainer,
                f"rank {self.rank} took {slowest * 1e3:.1f} ms for reading and forward of a batch, {self.ratio:.2f} times the "
                f"median: the others wait for it",
            )
