"""Lightning's ``utilities.finite_checks``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import detect_nan_parameters as detect_nan_parameters
from leyden_lightning.api.tools import print_nan_gradients as print_nan_gradients
