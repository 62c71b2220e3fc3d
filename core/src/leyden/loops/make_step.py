"""Chooses how a run trains on one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from leyden.loops.closure_step import ClosureStep
from leyden.loops.manual_step import ManualStep
from leyden.loops.several_step import TogetherStep, TurnsStep, step_of
from leyden.loops.signature import takes_optimizer_idx
from leyden.loops.step import TrainStep
from leyden.module import Module

if TYPE_CHECKING:
    from leyden.trainer import Trainer

Step: TypeAlias = "TrainStep | TurnsStep | ManualStep"


def make_step(trainer: Trainer, module: Module) -> Step:
    """How this run trains on one batch.

    Raises:
        ValueError: optimizers have frequencies but ``training_step`` does not take ``optimizer_idx``, or the other way round.
    """
    if not module.automatic_optimization:
        return ManualStep(trainer, module)
    name = f"{type(module).__name__}.training_step"
    if len(trainer.optimizers) < 2:
        if takes_optimizer_idx(module):
            return TurnsStep(trainer, module, [])
        return step_of(trainer, module)
    if takes_optimizer_idx(module):
        return TurnsStep(trainer, module, trainer.optimizer_frequencies)
    if trainer.optimizer_frequencies:
        raise ValueError(f"optimizers with a 'frequency' take turns, so write {name}(self, batch, batch_idx, optimizer_idx)")
    for optimizer in trainer.optimizers:
        if ClosureStep.is_needed(optimizer, module):
            raise ValueError(
                f"{type(optimizer).__name__} among several optimizers evaluates the loss itself, so each needs a turn of "
                f"its own: write {name}(self, batch, batch_idx, optimizer_idx)"
            )
    return TogetherStep(trainer, module)
