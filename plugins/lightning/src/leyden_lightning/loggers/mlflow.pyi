"""Lightning's ``loggers.mlflow``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

MLFlowLogger: Any
