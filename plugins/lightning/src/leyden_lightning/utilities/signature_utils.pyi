"""Lightning's ``utilities.signature_utils``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import is_param_in_hook_signature as is_param_in_hook_signature
