"""Lightning's ``fabric.accelerators.cuda``, for type checkers; written by tools/make_stubs.py."""

from leyden_accelerators.cuda import CUDAAccelerator as CUDAAccelerator
from leyden_lightning.api.tools import find_usable_cuda_devices as find_usable_cuda_devices
from leyden_lightning.api.tools import num_cuda_devices as num_cuda_devices
