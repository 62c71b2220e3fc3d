"""Lightning's ``utilities.combined_loader``, for type checkers; written by tools/make_stubs.py."""

from leyden import CombinedLoader as CombinedLoader
