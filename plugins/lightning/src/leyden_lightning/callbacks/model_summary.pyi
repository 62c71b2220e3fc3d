"""Lightning's ``callbacks.model_summary``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.model_summary import ModelSummary as ModelSummary
