"""How processes and devices share the work of a leyden run.

A module is imported when something of it is asked for, so that choosing one part by name imports none of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leyden.lazy import lazy

if TYPE_CHECKING:
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

_HOMES = {
    "DDPForkStrategy": "names",
    "DDPNotebookStrategy": "ddp",
    "DDPSpawnStrategy": "names",
    "DDPStrategy": "ddp",
    "DPStrategy": "dp",
    "ProcessesStrategy": "processes",
    "SingleDeviceStrategy": "single_device",
}

__getattr__ = lazy(globals(), _HOMES)
