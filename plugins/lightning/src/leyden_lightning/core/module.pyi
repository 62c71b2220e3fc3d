"""Lightning's ``core.module``, for type checkers; written by tools/make_stubs.py."""

from leyden import Module as _Module
from leyden.loops.manual_step import ManualOptimizer as _ManualOptimizer

LightningModule = _Module
LightningOptimizer = _ManualOptimizer
