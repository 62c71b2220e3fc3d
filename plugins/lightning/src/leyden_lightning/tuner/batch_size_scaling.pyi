"""Lightning's ``tuner.batch_size_scaling``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

scale_batch_size: Any
