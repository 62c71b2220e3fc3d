"""Loggers that write the numbers of a run into files, onto the terminal, or to the services that people keep runs with.

Importing this package imports no client; a client is imported when the first thing is written.

A module is imported when something of it is asked for, so that choosing one part by name imports none of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leyden.lazy import lazy

if TYPE_CHECKING:
    from leyden_loggers.comet import CometLogger
    from leyden_loggers.console import ConsoleLogger
    from leyden_loggers.csv import CSVLogger
    from leyden_loggers.jsonl import JSONLinesLogger
    from leyden_loggers.mlflow import MLflowLogger
    from leyden_loggers.run_directory import RunDirectory
    from leyden_loggers.tensorboard import TensorBoardLogger
    from leyden_loggers.wandb import WandbLogger
    from leyden_loggers.webhook import WebhookLogger

__all__ = [
    "CSVLogger",
    "CometLogger",
    "ConsoleLogger",
    "JSONLinesLogger",
    "MLflowLogger",
    "RunDirectory",
    "TensorBoardLogger",
    "WandbLogger",
    "WebhookLogger",
]

_HOMES = {
    "CSVLogger": "csv",
    "CometLogger": "comet",
    "ConsoleLogger": "console",
    "JSONLinesLogger": "jsonl",
    "MLflowLogger": "mlflow",
    "RunDirectory": "run_directory",
    "TensorBoardLogger": "tensorboard",
    "WandbLogger": "wandb",
    "WebhookLogger": "webhook",
}

__getattr__ = lazy(globals(), _HOMES)
