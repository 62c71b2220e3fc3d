"""Lightning's ``plugins.precision.native_amp``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.parts import MixedPrecision as _MixedPrecision

MixedPrecisionPlugin = _MixedPrecision
NativeMixedPrecisionPlugin = _MixedPrecision
