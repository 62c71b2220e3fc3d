"""Lightning's ``loggers.test_tube``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

TestTubeLogger: Any
