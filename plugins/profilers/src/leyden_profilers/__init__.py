"""Where the time of a run goes: a table, Python's profiler, torch's profiler."""

from leyden_profilers.advanced import AdvancedProfiler
from leyden_profilers.pytorch import PyTorchProfiler
from leyden_profilers.reporting import ReportingProfiler
from leyden_profilers.simple import SimpleProfiler

__all__ = ["AdvancedProfiler", "PyTorchProfiler", "ReportingProfiler", "SimpleProfiler"]
