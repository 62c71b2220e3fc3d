"""What plug-in authors test with: small modules, several processes, and a contract for each kind of component."""

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
from leyden.testing.processes import RankFailure, RanksEnvironment, run_ranks

__all__ = [
    "AcceleratorContract",
    "CallbackContract",
    "CheckpointIOContract",
    "EnvironmentContract",
    "LoggerContract",
    "PrecisionContract",
    "ProfilerContract",
    "RandomData",
    "RankFailure",
    "RanksEnvironment",
    "StrategyContract",
    "TinyDataModule",
    "TinyModule",
    "run_ranks",
]
