"""Lightning's ``trainer.connectors.logger_connector.result``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.types import _OUT_DICT as _OUT_DICT
