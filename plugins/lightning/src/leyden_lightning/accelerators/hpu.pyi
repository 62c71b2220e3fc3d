"""Lightning's ``accelerators.hpu``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

HPUAccelerator: Any
