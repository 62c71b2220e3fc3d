"""Lightning's ``callbacks.batch_size_finder``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.batch_size_finder import BatchSizeFinder as BatchSizeFinder
