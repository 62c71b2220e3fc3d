"""Lightning's ``loops.prediction_loop``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

PredictionLoop: Any
_PredictionLoop: Any
