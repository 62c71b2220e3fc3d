"""Lightning's ``tuner``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.tuner import Tuner as Tuner
