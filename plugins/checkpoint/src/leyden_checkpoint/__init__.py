"""Other ways of writing checkpoints: in the background, while training goes on."""

from leyden_checkpoint.asynchronous import AsyncCheckpointIO

__all__ = ["AsyncCheckpointIO"]
