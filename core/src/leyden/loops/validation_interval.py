"""How many batches lie between two validations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leyden.data.loaders import INFINITE

if TYPE_CHECKING:
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
    return max(1, int(length * interval))
