"""Lightning's ``fabric.loggers``, for type checkers; written by tools/make_stubs.py."""

from leyden import Logger as Logger
from leyden_lightning.api.loggers import CSVLogger as CSVLogger
from leyden_lightning.api.loggers import TensorBoardLogger as TensorBoardLogger
