"""Lightning's ``fabric.utilities.apply_func``, for type checkers; written by tools/make_stubs.py."""

from leyden.data.transfer import move_to_device as _move_to_device
from leyden_lightning.api.tools import apply_to_collection as apply_to_collection
from leyden_lightning.api.tools import apply_to_collections as apply_to_collections
from leyden_lightning.api.tools import convert_tensors_to_scalars as convert_tensors_to_scalars

move_data_to_device = _move_to_device
