"""Lightning's ``callbacks.base``, for type checkers; written by tools/make_stubs.py."""

from leyden import Callback as Callback
