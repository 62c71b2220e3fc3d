"""Lightning's ``utilities.logger``, for type checkers; written by tools/make_stubs.py."""
