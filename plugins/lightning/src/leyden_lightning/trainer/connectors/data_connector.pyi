"""Lightning's ``trainer.connectors.data_connector``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

DataConnector: Any
