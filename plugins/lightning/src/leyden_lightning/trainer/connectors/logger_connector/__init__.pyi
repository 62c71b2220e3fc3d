"""Lightning's ``trainer.connectors.logger_connector``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

LoggerConnector: Any
