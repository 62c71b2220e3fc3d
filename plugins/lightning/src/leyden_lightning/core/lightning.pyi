"""Lightning's ``core.lightning``, for type checkers; written by tools/make_stubs.py."""

from leyden import Module as _Module

LightningModule = _Module
