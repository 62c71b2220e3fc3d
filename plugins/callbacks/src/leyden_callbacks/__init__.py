"""What most runs want beside training: checkpoints, early stopping, progress, a summary, learning rates."""

from leyden_callbacks.checkpoint import ModelCheckpoint

__all__ = ["ModelCheckpoint"]
