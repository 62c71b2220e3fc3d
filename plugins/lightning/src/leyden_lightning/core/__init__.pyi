"""Lightning's ``core``, for type checkers; written by tools/make_stubs.py."""

from leyden import DataModule as _DataModule
from leyden import Module as _Module

LightningDataModule = _DataModule
LightningModule = _Module
