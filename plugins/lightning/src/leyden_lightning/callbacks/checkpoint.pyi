"""Lightning's ``callbacks.checkpoint``, for type checkers; written by tools/make_stubs.py."""

from leyden import Callback as Callback
from leyden_lightning.api.callbacks import Checkpoint as Checkpoint
