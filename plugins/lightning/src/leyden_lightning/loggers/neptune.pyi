"""Lightning's ``loggers.neptune``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

NeptuneLogger: Any
