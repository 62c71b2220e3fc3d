"""Lightning's ``accelerators.tpu``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

TPUAccelerator: Any
