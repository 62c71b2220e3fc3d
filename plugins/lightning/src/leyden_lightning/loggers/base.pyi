"""Lightning's ``loggers.base``, for type checkers; written by tools/make_stubs.py."""

from leyden import Logger as _Logger
from leyden_lightning.api.loggers import DummyLogger as DummyLogger
from leyden_lightning.api.rank_zero import DummyExperiment as DummyExperiment
from leyden_lightning.api.rank_zero import rank_zero_experiment as rank_zero_experiment
from typing import Any

LightningLoggerBase = _Logger
LoggerCollection: Any
