"""Lightning's ``callbacks.lr_finder``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.learning_rate_finder import LearningRateFinder as LearningRateFinder
from typing import Any

lr_find: Any
