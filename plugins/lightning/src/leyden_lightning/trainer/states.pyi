"""Lightning's ``trainer.states``, for type checkers; written by tools/make_stubs.py."""

from leyden.states import RunningStage as RunningStage
from leyden.states import TrainerFn as TrainerFn
from leyden.states import TrainerState as TrainerState
from leyden.states import TrainerStatus as TrainerStatus
