"""Lightning's ``trainer.connectors.accelerator_connector``, for type checkers; written by tools/make_stubs.py."""

from typing import Any

AcceleratorConnector: Any
