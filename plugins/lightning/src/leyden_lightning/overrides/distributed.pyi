"""Lightning's ``overrides.distributed``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

LightningDistributedModule: Any
UnrepeatedDistributedSampler: Any
