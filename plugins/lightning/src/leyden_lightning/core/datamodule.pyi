"""Lightning's ``core.datamodule``, for type checkers; written by tools/make_stubs.py."""

from leyden import DataModule as _DataModule

LightningDataModule = _DataModule
