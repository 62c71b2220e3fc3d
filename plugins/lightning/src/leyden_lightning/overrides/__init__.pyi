"""Lightning's ``overrides``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

LightningDistributedModule: Any
LightningParallelModule: Any
