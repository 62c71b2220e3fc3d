"""Lightning's ``trainer.connectors.accelerator_connector``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.inside import _AcceleratorConnector as _AcceleratorConnector
from typing import Any

AcceleratorConnector: Any
