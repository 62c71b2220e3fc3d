"""Lightning's ``profilers.simple``, for type checkers; written by tools/make_stubs.py."""

from leyden import Profiler as Profiler
from leyden_profilers.simple import SimpleProfiler as SimpleProfiler
