"""Lightning's ``plugins.precision``, for type checkers; written by tools/make_stubs.py."""

from leyden import Precision as Precision
from leyden import Precision as _Precision
from leyden_lightning.api.parts import HalfPrecision as HalfPrecision
from leyden_lightning.api.parts import MixedPrecision as MixedPrecision
from leyden_lightning.api.parts import MixedPrecision as _MixedPrecision
from leyden_precision.true import FP64Precision as _FP64Precision
from typing import Any

ApexMixedPrecisionPlugin: Any
BitsandbytesPrecision: Any
DeepSpeedPrecision: Any
DoublePrecision = _FP64Precision
DoublePrecisionPlugin = _FP64Precision
FSDPPrecision: Any
HPUPrecisionPlugin: Any
IPUPrecisionPlugin: Any
MixedPrecisionPlugin = _MixedPrecision
NativeMixedPrecisionPlugin = _MixedPrecision
PrecisionPlugin = _Precision
TPUPrecisionPlugin: Any
TransformerEnginePrecision: Any
XLAPrecision: Any
