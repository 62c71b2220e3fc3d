"""Lightning's ``plugins.precision.half``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.parts import HalfPrecision as HalfPrecision
