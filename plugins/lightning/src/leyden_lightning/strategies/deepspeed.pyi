"""Lightning's ``strategies.deepspeed``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

DeepSpeedStrategy: Any
