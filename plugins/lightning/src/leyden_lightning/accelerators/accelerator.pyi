"""Lightning's ``accelerators.accelerator``, for type checkers; written by tools/make_stubs.py."""

from leyden import Accelerator as Accelerator
