"""Lightning's ``accelerators``, for type checkers; written by tools/make_stubs.py."""

from leyden import Accelerator as Accelerator
from leyden_accelerators.cpu import CPUAccelerator as CPUAccelerator
from leyden_accelerators.cuda import CUDAAccelerator as CUDAAccelerator
from leyden_accelerators.cuda import CUDAAccelerator as _CUDAAccelerator
from leyden_accelerators.mps import MPSAccelerator as MPSAccelerator
from leyden_lightning.api.tools import find_usable_cuda_devices as find_usable_cuda_devices
from typing import Any

AcceleratorRegistry: Any
GPUAccelerator = _CUDAAccelerator
HPUAccelerator: Any
IPUAccelerator: Any
TPUAccelerator: Any
XLAAccelerator: Any
