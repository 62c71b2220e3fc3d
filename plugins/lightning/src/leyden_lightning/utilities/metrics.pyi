"""Lightning's ``utilities.metrics``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import metrics_to_scalars as metrics_to_scalars
