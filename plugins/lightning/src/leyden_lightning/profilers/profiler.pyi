"""Lightning's ``profilers.profiler``, for type checkers; written by tools/make_stubs.py."""

from leyden import Profiler as Profiler
