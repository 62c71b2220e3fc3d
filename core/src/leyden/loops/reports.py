"""What is said of an epoch or a fit that trained nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leyden.loops.manual_step import ManualStep
from leyden.messages import notify, warn

if TYPE_CHECKING:
    from leyden.loops.fit import FitLoop


def report_epoch(loop: FitLoop) -> None:
    """Says at the end of an epoch that it had no batch, or that no step was made yet: not hours later, when the fit ends."""
    if not loop.progress.batch:
        warn("LY004", f"epoch {loop.progress.epoch} trained on no batch")
    elif not loop.trainer.carry_accumulation:  # whose window may be longer than an epoch
        report_no_step(loop)


def report_no_step(loop: FitLoop) -> None:
    """Says, once a fit, that it trained nothing so far, although nothing was wrong with its gradients."""
    progress, reason = loop.progress, loop.how_to_step
    if not reason or not progress.total_batches or progress.global_step or progress.skipped_steps:
        return
    loop.how_to_step = ""
    if isinstance(loop.step, ManualStep):
        reason = "in manual optimization, step an optimizer of self.optimizers() in training_step"
    notify("LY037", f"the fit made no optimizer step in {progress.total_batches} batches: {reason}")
