"""Lightning's ``loops.fit_loop``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

FitLoop: Any
_FitLoop: Any
