"""Lightning's ``loops.loop``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

Loop: Any
_Loop: Any
