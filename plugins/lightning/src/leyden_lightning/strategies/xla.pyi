"""Lightning's ``strategies.xla``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

XLAStrategy: Any
