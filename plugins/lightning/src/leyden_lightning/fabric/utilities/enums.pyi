"""Lightning's ``fabric.utilities.enums``, for type checkers; written by tools/make_stubs.py."""

from leyden.states import Word as _Word
from leyden_lightning.api.enums import AMPType as AMPType
from leyden_lightning.api.enums import DeviceType as DeviceType
from leyden_lightning.api.enums import DistributedType as DistributedType
from leyden_lightning.api.enums import GradClipAlgorithmType as GradClipAlgorithmType
from leyden_lightning.api.enums import ModelSummaryMode as ModelSummaryMode
from leyden_lightning.api.enums import PrecisionType as PrecisionType

LightningEnum = _Word
