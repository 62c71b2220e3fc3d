"""Lightning's ``plugins.layer_sync``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

LayerSync: Any
NativeSyncBatchNorm: Any
TorchSyncBatchNorm: Any
