"""Lightning's ``callbacks.model_summary``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import ModelSummary as ModelSummary
