"""What plug-in authors test with: small modules, and a contract for each kind of component."""

from leyden.testing.contracts import (
    AcceleratorContract,
    CallbackContract,
    CheckpointIOContract,
    EnvironmentContract,
    LoggerContract,
    PrecisionContract,
    ProfilerContract,
    StrategyContract,
)
from leyden.testing.modules import RandomData, TinyDataModule, TinyModule

__all__ = [
    "AcceleratorContract",
    "CallbackContract",
    "CheckpointIOContract",
    "EnvironmentContract",
    "LoggerContract",
    "PrecisionContract",
    "ProfilerContract",
    "RandomData",
    "StrategyContract",
    "TinyDataModule",
    "TinyModule",
]
