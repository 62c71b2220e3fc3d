"""Lightning's ``plugins.precision.double``, for type checkers; written by tools/make_stubs.py."""

from leyden_precision.true import FP64Precision as _FP64Precision

DoublePrecision = _FP64Precision
DoublePrecisionPlugin = _FP64Precision
