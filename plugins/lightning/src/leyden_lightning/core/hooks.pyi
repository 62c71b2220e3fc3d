"""Lightning's ``core.hooks``, for type checkers; written by tools/make_stubs.py."""

from leyden import Module as _Module

CheckpointHooks = _Module
DataHooks = _Module
ModelHooks = _Module
