"""Lightning's ``utilities.xla_device``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

XLADeviceUtils: Any
