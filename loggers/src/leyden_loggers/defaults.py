"""The logger of a Trainer that was given none."""

from __future__ import annotations

from importlib.util import find_spec

from leyden import Logger, Trainer, hookimpl

from leyden_loggers.csv import CSVLogger
from leyden_loggers.tensorboard import TensorBoardLogger


@hookimpl
def default_logger(trainer: Trainer) -> Logger:
    """TensorBoard where its client is installed, else CSV; the client is looked for and not imported."""
    return TensorBoardLogger() if find_spec("tensorboard") else CSVLogger()
