"""Lightning's ``plugins.precision.precision``, for type checkers; written by tools/make_stubs.py."""

from leyden import Precision as Precision
from leyden import Precision as _Precision

PrecisionPlugin = _Precision
