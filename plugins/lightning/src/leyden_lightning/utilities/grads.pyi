"""Lightning's ``utilities.grads``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import grad_norm as grad_norm
