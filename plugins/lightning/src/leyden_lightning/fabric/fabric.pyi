"""Lightning's ``fabric.fabric``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

Fabric: Any
