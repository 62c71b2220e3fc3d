"""Lightning's ``callbacks.timer``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.timer import Timer as Timer
