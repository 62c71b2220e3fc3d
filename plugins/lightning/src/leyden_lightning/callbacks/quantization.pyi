"""Lightning's ``callbacks.quantization``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

QuantizationAwareTraining: Any
