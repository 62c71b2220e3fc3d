"""When validation is due inside a fit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from leyden.data.loaders import INFINITE, part_of
from leyden.loops.stopping import stops_inside_epoch

if TYPE_CHECKING:
    from leyden.loops.fit import FitLoop
    from leyden.trainer import Trainer


def validation_interval(trainer: Trainer, length: int | float) -> int | float:
    """Batches between validations; infinite for once at the end of an epoch, by optimizer steps, or by time.

    Args:
        trainer: the run.
        length: the batches of an epoch, infinite if unknown.

    Raises:
        ValueError: the interval does not fit the length.
    """
    interval = trainer.val_check_interval
    if trainer.val_check_seconds is not None or trainer.val_check_steps is not None or trainer.val_check_samples:
        return INFINITE
    if isinstance(interval, int):
        if trainer.check_val_every_n_epoch is not None and interval > length:
            raise ValueError(
                f"val_check_interval={interval} is more than the {int(length)} batches of an epoch; "
                f"use at most {int(length)}, or check_val_every_n_epoch=None to count across epochs"
            )
        return interval
    if interval == 1.0:
        return INFINITE
    if length == INFINITE:
        raise ValueError(
            f"val_check_interval={interval} is a fraction, but the training loader does not say how many batches it has; "
            f"pass a whole number of batches, or 1.0 for the end of each epoch"
        )
    return max(1, part_of(length, interval))


def validates_inside(trainer: Trainer, interval: int | float) -> bool:
    """Whether validation can be due before the end of an epoch; ``interval`` is what :func:`validation_interval` gave."""
    others = (trainer.val_check_seconds, trainer.val_check_steps, trainer.val_check_samples)
    return interval != INFINITE or any(other is not None for other in others)


def validation_due(loop: FitLoop, is_last: bool) -> bool:
    """Whether a fit validates after the batch that it has done, the last of its epoch or not."""
    trainer, progress, every = loop.trainer, loop.progress, loop.validate_every
    across_epochs = trainer.check_val_every_n_epoch is None
    if not across_epochs and (progress.epoch + 1) % trainer.check_val_every_n_epoch:  # type: ignore[operator]  # not None here
        return False
    if trainer.should_stop and stops_inside_epoch(loop):
        return True
    if trainer.val_check_seconds is not None:
        return _on_any(trainer, is_last, time.monotonic() - loop.last_validation >= trainer.val_check_seconds)
    if trainer.val_check_steps is not None:
        return progress.global_step % trainer.val_check_steps == 0 and progress.global_step != progress.validated_at
    if trainer.val_check_samples is not None:
        due = progress.samples // trainer.val_check_samples > progress.validated_samples // trainer.val_check_samples
        return due if loop.loader.samples is not None else _on_any(trainer, is_last, due)
    if every == INFINITE:
        return is_last
    return (progress.total_batches if across_epochs else progress.batch) % every == 0


def _on_any(trainer: Trainer, is_last: bool, due: bool) -> bool:
    """Whether it is due on any process: clocks differ between them, and so may the sizes of their batches.

    They ask each other at log points and at the end of an epoch, for asking after each batch would have each wait for the others.
    """
    strategy = trainer.strategy
    if strategy.world_size == 1:
        return due
    if not is_last and trainer.progress.global_step % (trainer.log_every_n_steps or 50):
        return False
    return bool(strategy.all_reduce(torch.tensor(float(due)), "max") > 0)
