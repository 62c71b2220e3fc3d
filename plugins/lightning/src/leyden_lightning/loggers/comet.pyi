"""Lightning's ``loggers.comet``, for type checkers; written by tools/make_stubs.py."""

from leyden_loggers.comet import CometLogger as CometLogger
