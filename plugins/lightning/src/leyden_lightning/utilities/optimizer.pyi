"""Lightning's ``utilities.optimizer``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import optimizer_to_device as optimizer_to_device
from leyden_lightning.api.tools import optimizers_to_device as optimizers_to_device
