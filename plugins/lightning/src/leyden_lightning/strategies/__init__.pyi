"""Lightning's ``strategies``, for type checkers; written by tools/make_stubs.py."""

from leyden import Strategy as Strategy
from leyden_strategies.ddp import DDPStrategy as DDPStrategy
from leyden_strategies.names import DDPSpawnStrategy as DDPSpawnStrategy
from leyden_strategies.processes import ProcessesStrategy as _ProcessesStrategy
from leyden_strategies.single_device import SingleDeviceStrategy as SingleDeviceStrategy
from typing import Any

BaguaStrategy: Any
ColossalAIStrategy: Any
DDPFullyShardedNativeStrategy: Any
DDPFullyShardedStrategy: Any
DDPShardedStrategy: Any
DDPSpawnShardedStrategy: Any
DataParallelStrategy: Any
DeepSpeedStrategy: Any
FSDPStrategy: Any
HPUParallelStrategy: Any
HivemindStrategy: Any
HorovodStrategy: Any
IPUStrategy: Any
ModelParallelStrategy: Any
ParallelStrategy = _ProcessesStrategy
SingleDeviceXLAStrategy: Any
SingleHPUStrategy: Any
SingleTPUStrategy: Any
StrategyRegistry: Any
TPUSpawnStrategy: Any
XLAStrategy: Any
