"""Lightning's ``accelerators.mps``, for type checkers; written by tools/make_stubs.py."""

from leyden_accelerators.mps import MPSAccelerator as MPSAccelerator
