"""Lightning's ``fabric.loggers.logger``, for type checkers; written by tools/make_stubs.py."""

from leyden import Logger as Logger
from leyden_lightning.api.rank_zero import rank_zero_experiment as rank_zero_experiment
