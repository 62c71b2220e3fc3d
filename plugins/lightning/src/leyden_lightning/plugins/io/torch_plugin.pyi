"""Lightning's ``plugins.io.torch_plugin``, for type checkers; written by tools/make_stubs.py."""

from leyden import CheckpointIO as _CheckpointIO

TorchCheckpointIO = _CheckpointIO
