"""Lightning's ``plugins.precision.amp``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.parts import MixedPrecision as MixedPrecision
from leyden_lightning.api.parts import MixedPrecision as _MixedPrecision

MixedPrecisionPlugin = _MixedPrecision
