"""The number formats that leyden trains in."""

from leyden_precision.autocast import BF16MixedPrecision, MixedPrecision
from leyden_precision.scaled import FP16MixedPrecision
from leyden_precision.true import (
    BF16Precision,
    FP16Precision,
    FP64Precision,
    FullPrecision,
    TruePrecision,
)

__all__ = [
    "BF16MixedPrecision",
    "BF16Precision",
    "FP16MixedPrecision",
    "FP16Precision",
    "FP64Precision",
    "FullPrecision",
    "MixedPrecision",
    "TruePrecision",
]
