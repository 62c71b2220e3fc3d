"""Lightning's ``loggers.litlogger``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

LitLogger: Any
