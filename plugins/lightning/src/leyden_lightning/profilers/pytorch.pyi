"""Lightning's ``profilers.pytorch``, for type checkers; written by tools/make_stubs.py."""

from leyden import Profiler as Profiler
from leyden_profilers.pytorch import PyTorchProfiler as PyTorchProfiler
