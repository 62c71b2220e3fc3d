"""When a fit stops, and what is said where a loader stopped before it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from leyden.data.loaders import INFINITE
from leyden.messages import warn

if TYPE_CHECKING:
    from leyden.loops.fit import FitLoop


def reads_of(loop: FitLoop) -> int | float:
    """Batches of an epoch at most, the same on all processes, however many each of them has."""
    return loop.loader.reads if loop.loader.reads == INFINITE else loop.trainer.num_training_batches


def is_done(loop: FitLoop) -> bool:
    """Whether there is no further epoch."""
    trainer, progress = loop.trainer, loop.progress
    if trainer.max_epochs != -1 and progress.epoch >= trainer.max_epochs:
        return True
    if not trainer.num_training_batches:  # limit_train_batches=0 trains nothing
        return True
    return stops_inside_epoch(loop)


def stops_inside_epoch(loop: FitLoop) -> bool:
    """Whether training is to stop although the epoch is not over."""
    trainer, progress = loop.trainer, loop.progress
    if trainer.max_steps != -1 and progress.global_step >= trainer.max_steps:
        return True
    if loop.deadline is not None and time.monotonic() >= loop.deadline:
        trainer.should_stop = True
    if not trainer.should_stop or not trainer.strategy.agrees_to_stop:
        return False
    epochs_done = progress.epoch + (1 if progress.batch and progress.batch >= reads_of(loop) else 0)
    return epochs_done >= (trainer.min_epochs or 0) and progress.global_step >= (trainer.min_steps or 0)


def check_given(loop: FitLoop, given: int) -> None:
    """Compares the batches that an epoch got with those its loader says it has.

    Raises:
        ValueError: it got none at all.
    """
    if not given:
        raise ValueError(
            f"the training loader gave no batch in epoch {loop.progress.epoch}; pass a DataLoader, a list, or an iterable "
            f"that starts anew each epoch (an iterator can be read once)"
        )
    if INFINITE not in (loop.loader.whole, loop.trainer.num_training_batches) and not loop.warned_length:
        loop.warned_length = True
        warn(
            "LY003",
            f"the training loader says it has {int(loop.loader.whole)} batches an epoch but gave {given}; "
            f"every epoch trains what it gives",
        )
