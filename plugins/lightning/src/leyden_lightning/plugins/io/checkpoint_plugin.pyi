"""Lightning's ``plugins.io.checkpoint_plugin``, for type checkers; written by tools/make_stubs.py."""

from leyden import CheckpointIO as CheckpointIO
