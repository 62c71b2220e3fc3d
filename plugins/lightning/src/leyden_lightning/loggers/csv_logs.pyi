"""Lightning's ``loggers.csv_logs``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.loggers import CSVLogger as CSVLogger
