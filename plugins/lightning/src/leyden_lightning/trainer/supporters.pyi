"""Lightning's ``trainer.supporters``, for type checkers; written by tools/make_stubs.py."""

from leyden import CombinedLoader as CombinedLoader
from leyden_lightning.api.tools import TensorRunningAccum as TensorRunningAccum
from typing import Any

CycleIterator: Any
