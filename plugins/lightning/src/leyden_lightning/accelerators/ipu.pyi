"""Lightning's ``accelerators.ipu``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

IPUAccelerator: Any
