"""Lightning's ``strategies.tpu_spawn``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

TPUSpawnStrategy: Any
