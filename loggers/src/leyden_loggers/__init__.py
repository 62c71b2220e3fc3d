"""Loggers that write the numbers of a run into files, onto the terminal, or to the services that people keep runs with.

Importing this package imports no client; a client is imported when the first thing is written.
"""

from leyden_loggers.comet import CometLogger
from leyden_loggers.console import ConsoleLogger
from leyden_loggers.csv import CSVLogger
from leyden_loggers.jsonl import JSONLinesLogger
from leyden_loggers.mlflow import MLflowLogger
from leyden_loggers.run_directory import RunDirectory
from leyden_loggers.tensorboard import TensorBoardLogger
from leyden_loggers.wandb import WandbLogger

__all__ = [
    "CSVLogger",
    "CometLogger",
    "ConsoleLogger",
    "JSONLinesLogger",
    "MLflowLogger",
    "RunDirectory",
    "TensorBoardLogger",
    "WandbLogger",
]
