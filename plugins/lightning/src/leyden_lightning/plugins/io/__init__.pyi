"""Lightning's ``plugins.io``, for type checkers; written by tools/make_stubs.py."""

from leyden import CheckpointIO as CheckpointIO
from leyden import CheckpointIO as _CheckpointIO
from leyden_checkpoint.asynchronous import AsyncCheckpointIO as AsyncCheckpointIO
from typing import Any

HPUCheckpointIO: Any
TorchCheckpointIO = _CheckpointIO
XLACheckpointIO: Any
