"""Lightning's ``core.decorators``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import auto_move_data as auto_move_data
from leyden_lightning.api.tools import data_loader as data_loader
