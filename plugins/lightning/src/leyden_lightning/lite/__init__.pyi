"""Lightning's ``lite``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

LightningLite: Any
