"""The devices that leyden trains on: CPU, CUDA and MPS."""

from leyden_accelerators.cpu import CPUAccelerator
from leyden_accelerators.cuda import CUDAAccelerator
from leyden_accelerators.gpu import gpu
from leyden_accelerators.mps import MPSAccelerator

__all__ = ["CPUAccelerator", "CUDAAccelerator", "MPSAccelerator", "gpu"]
