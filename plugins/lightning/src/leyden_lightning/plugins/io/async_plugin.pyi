"""Lightning's ``plugins.io.async_plugin``, for type checkers; written by tools/make_stubs.py."""

from leyden_checkpoint.asynchronous import AsyncCheckpointIO as AsyncCheckpointIO
