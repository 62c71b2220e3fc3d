"""Lightning's ``callbacks.lr_logger``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.learning_rate_monitor import LearningRateMonitor as _LearningRateMonitor

LearningRateLogger = _LearningRateMonitor
