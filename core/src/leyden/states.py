"""What a Trainer is doing: ``trainer.state``, in words that compare as strings."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leyden.trainer import Trainer


class Word(str, Enum):
    """A str with one of a few values; any spelling of it is equal, whatever the case."""

    @classmethod
    def from_str(cls, value: str) -> Word | None:
        """The member of that name or value, or None."""
        wanted = value.lower().replace("-", "_")
        return next((m for m in cls if wanted in (m.value.lower().replace("-", "_"), m.name.lower())), None)

    def __eq__(self, other: object) -> bool:
        other = other.value if isinstance(other, Enum) else other
        return isinstance(other, str) and self.value.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.value.lower())

    def __str__(self) -> str:
        return str(self.value)


class TrainerStatus(Word):
    """Whether a run goes on."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        """Whether it is over."""
        return self in (self.FINISHED, self.INTERRUPTED)


class TrainerFn(Word):
    """Which method of the Trainer runs; what hooks get as ``stage``."""

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"


class RunningStage(Word):
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


_STAGES = {
    "sanity_checking": RunningStage.SANITY_CHECKING,
    "validating": RunningStage.VALIDATING,
    "testing": RunningStage.TESTING,
    "predicting": RunningStage.PREDICTING,
    "training": RunningStage.TRAINING,
}


class TrainerState:
    """``trainer.state``: read from the Trainer each time, so that it is never behind."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    @property
    def fn(self) -> TrainerFn | None:
        """Which method runs, or ran last."""
        return None if self._trainer.called is None else TrainerFn(self._trainer.called)

    @property
    def status(self) -> TrainerStatus:
        """Whether the run goes on; one that an exception or Ctrl-C ended is ``"interrupted"``."""
        if self._trainer.running:
            return TrainerStatus.RUNNING
        if self.fn is None:
            return TrainerStatus.INITIALIZING
        return TrainerStatus.FINISHED if self._trainer.came_to_its_end else TrainerStatus.INTERRUPTED

    @property
    def stage(self) -> RunningStage | None:
        """What batches are for; None between runs."""
        return next((stage for flag, stage in _STAGES.items() if getattr(self._trainer, flag)), None)

    @property
    def finished(self) -> bool:
        """Whether the last run ended by itself."""
        return self.status is TrainerStatus.FINISHED

    @property
    def stopped(self) -> bool:
        """Whether it is over."""
        return self.status.stopped
