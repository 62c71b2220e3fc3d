"""Saves checkpoints while training."""

from leyden_callbacks.checkpoint.callback import ModelCheckpoint

__all__ = ["ModelCheckpoint"]
