"""Lightning's ``loggers.tensorboard``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.loggers import TensorBoardLogger as TensorBoardLogger
