"""Lightning's ``loops.evaluation_loop``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

EvaluationLoop: Any
_EvaluationLoop: Any
