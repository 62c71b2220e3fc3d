"""Lightning's ``fabric.utilities.imports``, for type checkers; written by tools/make_stubs.py."""
