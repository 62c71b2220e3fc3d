"""Lightning's ``strategies.fsdp``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

FSDPStrategy: Any
