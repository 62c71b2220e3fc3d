"""Lightning's ``serve``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

ServableModule: Any
ServableModuleValidator: Any
