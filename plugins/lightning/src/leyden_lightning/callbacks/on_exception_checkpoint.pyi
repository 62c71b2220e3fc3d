"""Lightning's ``callbacks.on_exception_checkpoint``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.on_exception_checkpoint import OnExceptionCheckpoint as OnExceptionCheckpoint
