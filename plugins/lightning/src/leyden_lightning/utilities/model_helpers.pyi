"""Lightning's ``utilities.model_helpers``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import is_overridden as is_overridden
