"""Lightning's ``core.optimizer``, for type checkers; written by tools/make_stubs.py."""

from leyden.loops.manual_step import ManualOptimizer as _ManualOptimizer

LightningOptimizer = _ManualOptimizer
