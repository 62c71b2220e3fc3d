"""Lightning's ``tuner.lr_finder``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

lr_find: Any
