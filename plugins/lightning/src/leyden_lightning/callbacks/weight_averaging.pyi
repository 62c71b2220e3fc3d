"""Lightning's ``callbacks.weight_averaging``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import EMAWeightAveraging as EMAWeightAveraging
from typing import Any

WeightAveraging: Any
