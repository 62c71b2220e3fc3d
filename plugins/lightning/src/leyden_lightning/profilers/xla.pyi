"""Lightning's ``profilers.xla``, for type checkers; written by tools/make_stubs.py."""

from leyden import Profiler as Profiler
from typing import Any

XLAProfiler: Any
