"""Lightning's ``strategies.single_tpu``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

SingleTPUStrategy: Any
