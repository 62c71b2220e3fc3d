"""What a run is doing, in Lightning's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leyden_lightning.api.enums import LightningEnum

if TYPE_CHECKING:
    import leyden


class TrainerStatus(LightningEnum):
    """Whether a run goes on."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        """Whether it is over."""
        return self in (self.FINISHED, self.INTERRUPTED)


class TrainerFn(LightningEnum):
    """Which method of the Trainer runs; what hooks get as ``stage``."""

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"


class RunningStage(LightningEnum):
    """What batches are for at the moment."""

    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def evaluating(self) -> bool:
        """Whether it is a validation, a test or a sanity check."""
        return self in (self.VALIDATING, self.TESTING, self.SANITY_CHECKING)

    @property
    def dataloader_prefix(self) -> str | None:
        """What the names of its loaders begin with."""
        if self in (self.VALIDATING, self.SANITY_CHECKING):
            return "val"
        return str(self.value)


class TrainerState:
    """``trainer.state``: read from the Trainer each time, so that it is never behind."""

    def __init__(self, trainer: leyden.Trainer) -> None:
        self._trainer = trainer

    @property
    def fn(self) -> TrainerFn | None:
        """Which method runs, or ran last."""
        stage = self._trainer.stage or getattr(self._trainer, "last_stage", None)
        return TrainerFn(stage) if stage else None

    @property
    def status(self) -> TrainerStatus:
        """Whether the run goes on."""
        trainer = self._trainer
        if trainer.running:
            return TrainerStatus.RUNNING
        if trainer.interrupted or getattr(trainer, "last_failed", False):
            return TrainerStatus.INTERRUPTED
        return TrainerStatus.FINISHED if self.fn is not None else TrainerStatus.INITIALIZING

    @property
    def stage(self) -> RunningStage | None:
        """What batches are for; None between runs."""
        trainer = self._trainer
        for flag, stage in (
            ("sanity_checking", RunningStage.SANITY_CHECKING),
            ("validating", RunningStage.VALIDATING),
            ("testing", RunningStage.TESTING),
            ("predicting", RunningStage.PREDICTING),
            ("training", RunningStage.TRAINING),
        ):
            if getattr(trainer, flag):
                return stage
        return None

    @property
    def finished(self) -> bool:
        """Whether the last run ended by itself."""
        return self.status is TrainerStatus.FINISHED

    @property
    def stopped(self) -> bool:
        """Whether it is over."""
        return self.status.stopped
