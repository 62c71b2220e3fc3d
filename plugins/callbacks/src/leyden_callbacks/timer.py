"""Stops training after a time, and says how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from leyden import Callback
from leyden.intervals import seconds

from leyden_callbacks.arguments import check_bool, check_choice
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer

STAGES = ("train", "validate", "sanity_check", "test", "predict")


class Timer(Callback):
    """Takes the time of each stage; training stops when it has taken ``duration``, a resumed run's earlier parts included.

    Args:
        duration: ``"12 h"``, ``"DD:HH:MM:SS"``, a timedelta or its arguments as a dict; None only takes times.
        interval: whether training may stop after each ``"step"`` or each ``"epoch"``.
        verbose: whether to say on standard error that it stops.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument cannot be read.
    """

    name = "timer"

    def __init__(
        self, duration: str | timedelta | Mapping[str, float] | None = None, interval: str = "step", verbose: bool = True
    ) -> None:
        owner = type(self).__name__
        check_choice(owner, "interval", interval, ("step", "epoch"))
        check_bool(owner, "verbose", verbose)
        self.duration = None if duration is None else seconds(duration, f"{owner}(duration={duration!r})")
        """Seconds of training until it stops; None is never."""
        self.interval = interval
        self.verbose = verbose
        self._forget()

    def _forget(self) -> None:
        self._before = 0.0  # seconds of training before this run
        self._started: dict[str, float] = {}
        self._ended: dict[str, float] = {}

    # ---- what it knows ----

    def start_time(self, stage: str = "train") -> float | None:
        """When a stage of this run began last, on ``time.monotonic``'s clock; None if it did not."""
        self._check(stage)
        return self._started.get(stage)

    def end_time(self, stage: str = "train") -> float | None:
        """When it ended last; None if it did not, or goes on."""
        self._check(stage)
        return self._ended.get(stage)

    def time_elapsed(self, stage: str = "train") -> float:
        """Seconds of a stage so far; of ``"train"`` with those of the run that a checkpoint is of."""
        self._check(stage)
        start = self._started.get(stage)
        before = self._before if stage == "train" else 0.0
        return before if start is None else before + self._ended.get(stage, time.monotonic()) - start

    def time_remaining(self, stage: str = "train") -> float | None:
        """Seconds of training that are left; None without a duration."""
        self._check(stage)
        return None if self.duration is None else max(0.0, self.duration - self.time_elapsed(stage))

    def _check(self, stage: str) -> None:
        check_choice("Timer", "stage", stage, STAGES)

    def _start(self, stage: str) -> None:
        self._ended.pop(stage, None)
        self._started[stage] = time.monotonic()

    def _end(self, stage: str) -> None:
        if stage in self._started and stage not in self._ended:
            self._ended[stage] = time.monotonic()

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """The seconds of training so far."""
        return {"time_elapsed": self.time_elapsed("train")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts them as if they had passed in this run."""
        self._before = float(state_dict["time_elapsed"])

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """A fit starts anew; one that goes on from a checkpoint gets its state after this."""
        if stage == "fit":
            self._forget()

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Starts the clock; time may be up already."""
        self._start("train")
        self._stop_if_due(trainer)

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stops training if time is up."""
        if self.interval == "step" and self.duration is not None:
            self._stop_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Stops training if time is up."""
        if self.interval == "epoch":
            self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self.duration is None or trainer.should_stop:
            return
        up = self.time_elapsed("train") >= self.duration
        if trainer.world_size > 1:
            up = trainer.strategy.broadcast(up)  # clocks differ between processes, decisions must not
        if up:
            trainer.should_stop = True
            if self.verbose:
                elapsed = timedelta(seconds=round(self.time_elapsed("train")))
                say(trainer, f"training stops after {elapsed}, in epoch {trainer.current_epoch}: its time is up")

    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Stops the clock."""
        self._end("train")

    def on_sanity_check_start(self, trainer: Trainer, module: Module) -> None:
        """Starts its clock."""
        self._start("sanity_check")

    def on_sanity_check_end(self, trainer: Trainer, module: Module) -> None:
        """Stops its clock."""
        self._end("sanity_check")

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """Starts its clock."""
        if not trainer.sanity_checking:
            self._start("validate")

    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """Stops its clock."""
        self._end("validate")

    def on_test_start(self, trainer: Trainer, module: Module) -> None:
        """Starts its clock."""
        self._start("test")

    def on_test_end(self, trainer: Trainer, module: Module) -> None:
        """Stops its clock."""
        self._end("test")

    def on_predict_start(self, trainer: Trainer, module: Module) -> None:
        """Starts its clock."""
        self._start("predict")

    def on_predict_end(self, trainer: Trainer, module: Module) -> None:
        """Stops its clock."""
        self._end("predict")

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Stops what a failure left running."""
        for running in list(self._started):
            self._end(running)
