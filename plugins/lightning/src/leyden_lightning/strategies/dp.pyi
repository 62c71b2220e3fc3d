"""Lightning's ``strategies.dp``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

DataParallelStrategy: Any
