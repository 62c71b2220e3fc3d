"""Lightning's ``plugins.training_type``, for type checkers; written by tools/make_stubs.py."""

from leyden import Strategy as _Strategy
from leyden_strategies.ddp import DDPStrategy as _DDPStrategy
from leyden_strategies.names import DDPSpawnStrategy as _DDPSpawnStrategy
from leyden_strategies.processes import ProcessesStrategy as _ProcessesStrategy
from leyden_strategies.single_device import SingleDeviceStrategy as _SingleDeviceStrategy
from typing import Any

DDP2Plugin: Any
DDPFullyShardedPlugin: Any
DDPPlugin = _DDPStrategy
DDPShardedPlugin: Any
DDPSpawnPlugin = _DDPSpawnStrategy
DDPSpawnShardedPlugin: Any
DataParallelPlugin: Any
DeepSpeedPlugin: Any
HorovodPlugin: Any
IPUPlugin: Any
ParallelPlugin = _ProcessesStrategy
SingleDevicePlugin = _SingleDeviceStrategy
SingleTPUPlugin: Any
TPUSpawnPlugin: Any
TrainingTypePlugin = _Strategy
