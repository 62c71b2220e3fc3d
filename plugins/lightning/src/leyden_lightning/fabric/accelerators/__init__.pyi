"""Lightning's ``fabric.accelerators``, for type checkers; written by tools/make_stubs.py."""

from leyden import Accelerator as Accelerator
from leyden_accelerators.cpu import CPUAccelerator as CPUAccelerator
from leyden_accelerators.cuda import CUDAAccelerator as CUDAAccelerator
from leyden_accelerators.mps import MPSAccelerator as MPSAccelerator
from typing import Any

XLAAccelerator: Any
