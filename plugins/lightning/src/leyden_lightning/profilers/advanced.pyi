"""Lightning's ``profilers.advanced``, for type checkers; written by tools/make_stubs.py."""

from leyden import Profiler as Profiler
from leyden_profilers.advanced import AdvancedProfiler as AdvancedProfiler
