"""When a checkpoint is due."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from leyden.intervals import seconds

from leyden_callbacks.arguments import check_int
from leyden_callbacks.monitor import ends_with_validation

if TYPE_CHECKING:
    from leyden import Trainer


Duration: TypeAlias = str | timedelta | Mapping[str, float]


class Schedule:
    """Every so many optimizer steps, epochs or minutes: one of the three, every epoch if none is given."""

    def __init__(
        self,
        owner: str,
        every_n_train_steps: int | None,
        every_n_epochs: int | None,
        train_time_interval: Duration | None,
        at_epoch_end: bool | None,
    ) -> None:
        for argument, value in (("every_n_train_steps", every_n_train_steps), ("every_n_epochs", every_n_epochs)):
            if value is not None:
                check_int(owner, argument, value, 0)
        interval = None
        if train_time_interval is not None:
            label = f"{owner}(train_time_interval={train_time_interval!r})"
            interval = timedelta(seconds=seconds(train_time_interval, label))
        given = {
            f"every_n_train_steps={every_n_train_steps}": every_n_train_steps,
            f"every_n_epochs={every_n_epochs}": every_n_epochs,
            f"train_time_interval={train_time_interval!r}": interval,
        }
        chosen = [text for text, value in given.items() if value]
        if len(chosen) > 1:
            raise ValueError(f"{owner}({', '.join(chosen)}): pass one of them, or one {owner} for each")
        if all(value is None for value in given.values()):
            every_n_epochs = 1
        self.every_n_train_steps = every_n_train_steps or 0
        self.every_n_epochs = every_n_epochs or 0
        self.interval = interval
        self.counts_batches = bool(self.every_n_train_steps or interval)
        self.at_epoch_end = at_epoch_end
        self._last_time = 0.0
        self._last_step = 0

    def __str__(self) -> str:
        if self.every_n_train_steps:
            return (
                "every optimizer step" if self.every_n_train_steps == 1 else f"every {self.every_n_train_steps:,} optimizer steps"
            )
        if self.interval is not None:
            return f"every {self.interval}"
        if not self.every_n_epochs:
            return "never"
        return "every epoch" if self.every_n_epochs == 1 else f"every {self.every_n_epochs:,} epochs"

    def start(self, trainer: Trainer) -> None:
        """Training starts or goes on."""
        self._last_time = time.monotonic()
        self._last_step = trainer.global_step

    def after_batch(self, trainer: Trainer) -> bool:
        """Whether one is due after a training batch; each optimizer step counts once, however many batches it took."""
        step = trainer.progress.global_step
        if step == self._last_step:
            return False
        self._last_step = step
        if self.every_n_train_steps:
            return step % self.every_n_train_steps == 0
        return self.interval is not None and self._time_is_up(trainer, step, self.interval)

    def _time_is_up(self, trainer: Trainer, step: int, interval: timedelta) -> bool:
        strategy = trainer.strategy
        # Clocks differ between processes, so rank 0's decides; asking it at every step would make every step wait for it.
        if strategy.world_size > 1 and step % (trainer.log_every_n_steps or 50):
            return False
        up = strategy.broadcast(time.monotonic() - self._last_time >= interval.total_seconds())
        if up:
            self._last_time = time.monotonic()
        return up

    def after_epoch(self, trainer: Trainer) -> bool:
        """Whether one is due at the end of this epoch, or after the validations in it."""
        return self.every_n_epochs > 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def waits_for_epoch_end(self, trainer: Trainer, *, monitored: bool) -> bool:
        """Whether the epoch's checkpoint is saved at its end rather than after each validation."""
        if self.at_epoch_end is not None:
            return self.at_epoch_end
        if not monitored and trainer.check_val_every_n_epoch not in (None, 1):
            return True  # not every epoch validates, but every epoch is worth saving
        return ends_with_validation(trainer)
