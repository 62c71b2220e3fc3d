"""Lightning's ``profilers.base``, for type checkers; written by tools/make_stubs.py."""

from leyden import Profiler as Profiler
from leyden import Profiler as _Profiler

PassThroughProfiler = _Profiler
