"""Lightning's ``overrides.base``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import unwrap_lightning_module as unwrap_lightning_module
