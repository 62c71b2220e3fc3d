"""Lightning's ``loops.training_epoch_loop``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

TrainingEpochLoop: Any
_TrainingEpochLoop: Any
