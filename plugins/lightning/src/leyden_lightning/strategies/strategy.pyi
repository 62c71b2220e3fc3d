"""Lightning's ``strategies.strategy``, for type checkers; written by tools/make_stubs.py."""

from leyden import Strategy as Strategy
