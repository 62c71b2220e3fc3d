"""A base test class for each kind of component: what core relies on, shown by training with it.

Subclass one in a test module, return your component from its first method, and let pytest collect it.
"""

from leyden.testing.contracts.accelerator import AcceleratorContract
from leyden.testing.contracts.callback import CallbackContract
from leyden.testing.contracts.checkpoint_io import CheckpointIOContract
from leyden.testing.contracts.environment import EnvironmentContract
from leyden.testing.contracts.logger import LoggerContract
from leyden.testing.contracts.precision import PrecisionContract
from leyden.testing.contracts.profiler import ProfilerContract
from leyden.testing.contracts.strategy import StrategyContract

__all__ = [
    "AcceleratorContract",
    "CallbackContract",
    "CheckpointIOContract",
    "EnvironmentContract",
    "LoggerContract",
    "PrecisionContract",
    "ProfilerContract",
    "StrategyContract",
]
