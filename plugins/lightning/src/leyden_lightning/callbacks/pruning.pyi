"""Lightning's ``callbacks.pruning``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import ModelPruning as ModelPruning
