"""Lightning's ``callbacks.callback``, for type checkers; written by tools/make_stubs.py."""

from leyden import Callback as Callback
