"""How processes and devices share the work of a leyden run."""

from leyden_strategies.ddp import DDPNotebookStrategy, DDPStrategy
from leyden_strategies.dp import DPStrategy
from leyden_strategies.names import DDPForkStrategy, DDPSpawnStrategy
from leyden_strategies.processes import ProcessesStrategy
from leyden_strategies.single_device import SingleDeviceStrategy

__all__ = [
    "DDPForkStrategy",
    "DDPNotebookStrategy",
    "DDPSpawnStrategy",
    "DDPStrategy",
    "DPStrategy",
    "ProcessesStrategy",
    "SingleDeviceStrategy",
]
