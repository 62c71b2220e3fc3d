"""Lightning's ``callbacks.rich_model_summary``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import RichModelSummary as RichModelSummary
