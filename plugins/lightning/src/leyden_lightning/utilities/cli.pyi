"""Lightning's ``utilities.cli``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import instantiate_class as instantiate_class
from typing import Any

LightningArgumentParser: Any
LightningCLI: Any
SaveConfigCallback: Any
