"""What a run is doing, in Lightning's words, which are leyden's."""

from leyden.states import RunningStage, TrainerFn, TrainerState, TrainerStatus

__all__ = ["RunningStage", "TrainerFn", "TrainerState", "TrainerStatus"]
