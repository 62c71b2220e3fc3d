"""Lightning's ``strategies.model_parallel``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

ModelParallelStrategy: Any
