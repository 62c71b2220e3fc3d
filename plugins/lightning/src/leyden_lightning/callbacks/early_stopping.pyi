"""Lightning's ``callbacks.early_stopping``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.early_stopping import EarlyStoppingReason as EarlyStoppingReason
from leyden_lightning.api.callbacks import EarlyStopping as EarlyStopping
