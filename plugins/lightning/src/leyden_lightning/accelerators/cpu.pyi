"""Lightning's ``accelerators.cpu``, for type checkers; written by tools/make_stubs.py."""

from leyden_accelerators.cpu import CPUAccelerator as CPUAccelerator
