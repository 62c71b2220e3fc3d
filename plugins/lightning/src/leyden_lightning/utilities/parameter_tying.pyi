"""Lightning's ``utilities.parameter_tying``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import find_shared_parameters as find_shared_parameters
from leyden_lightning.api.tools import set_shared_parameters as set_shared_parameters
