"""Lightning's ``accelerators.gpu``, for type checkers; written by tools/make_stubs.py."""

from leyden_accelerators.cuda import CUDAAccelerator as _CUDAAccelerator

GPUAccelerator = _CUDAAccelerator
