"""Lightning's ``callbacks.lr_monitor``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.learning_rate_monitor import LearningRateMonitor as LearningRateMonitor
