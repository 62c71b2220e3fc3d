"""Lightning's ``callbacks.model_checkpoint``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import Checkpoint as Checkpoint
from leyden_lightning.api.callbacks import ModelCheckpoint as ModelCheckpoint
