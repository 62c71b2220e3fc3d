"""Lightning's ``overrides.data_parallel``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

LightningDataParallel: Any
LightningDistributedDataParallel: Any
LightningParallelModule: Any
