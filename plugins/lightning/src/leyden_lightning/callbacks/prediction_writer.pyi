"""Lightning's ``callbacks.prediction_writer``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import BasePredictionWriter as BasePredictionWriter
from leyden_lightning.api.enums import WriteInterval as WriteInterval
