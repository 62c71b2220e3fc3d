"""Lightning's ``profiler.advanced``, for type checkers; written by tools/make_stubs.py."""

from leyden import Profiler as Profiler
from leyden import Profiler as _Profiler
from leyden_profilers.advanced import AdvancedProfiler as AdvancedProfiler
from leyden_profilers.pytorch import PyTorchProfiler as PyTorchProfiler
from leyden_profilers.simple import SimpleProfiler as SimpleProfiler
from typing import Any

AbstractProfiler = _Profiler
BaseProfiler = _Profiler
PassThroughProfiler = _Profiler
XLAProfiler: Any
