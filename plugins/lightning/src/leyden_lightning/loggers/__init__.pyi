"""Lightning's ``loggers``, for type checkers; written by tools/make_stubs.py."""

from leyden import Logger as Logger
from leyden import Logger as _Logger
from leyden_lightning.api.loggers import CSVLogger as CSVLogger
from leyden_lightning.api.loggers import TensorBoardLogger as TensorBoardLogger
from leyden_loggers.comet import CometLogger as CometLogger
from leyden_loggers.wandb import WandbLogger as WandbLogger
from typing import Any

LightningLoggerBase = _Logger
LitLogger: Any
LoggerCollection: Any
MLFlowLogger: Any
NeptuneLogger: Any
TestTubeLogger: Any
