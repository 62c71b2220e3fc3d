"""Lightning's ``cli``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import instantiate_class as instantiate_class
from leyden_lightning.api.types import ArgsType as ArgsType
from leyden_lightning.api.types import LRSchedulerCallable as LRSchedulerCallable
from leyden_lightning.api.types import OptimizerCallable as OptimizerCallable
from typing import Any

LightningArgumentParser: Any
LightningCLI: Any
SaveConfigCallback: Any
