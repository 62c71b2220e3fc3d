"""Lightning's ``fabric.utilities``, for type checkers; written by tools/make_stubs.py."""

from leyden import AttributeDict as AttributeDict
from leyden.data.transfer import move_to_device as _move_to_device
from leyden.states import Word as _Word
from leyden_lightning.api.rank_zero import disable_possible_user_warnings as disable_possible_user_warnings
from leyden_lightning.api.rank_zero import rank_zero_deprecation as rank_zero_deprecation
from leyden_lightning.api.rank_zero import rank_zero_info as rank_zero_info
from leyden_lightning.api.rank_zero import rank_zero_only as rank_zero_only
from leyden_lightning.api.rank_zero import rank_zero_warn as rank_zero_warn
from leyden_lightning.api.seeding import isolate_rng as isolate_rng
from leyden_lightning.api.seeding import pl_worker_init_function as pl_worker_init_function
from leyden_lightning.api.seeding import reset_seed as reset_seed
from leyden_lightning.api.seeding import seed_everything as seed_everything
from leyden_lightning.api.tools import apply_to_collection as apply_to_collection
from leyden_lightning.api.tools import apply_to_collections as apply_to_collections
from leyden_lightning.api.tools import convert_tensors_to_scalars as convert_tensors_to_scalars
from leyden_lightning.api.tools import is_shared_filesystem as is_shared_filesystem
from leyden_lightning.api.tools import measure_flops as measure_flops
from leyden_lightning.api.tools import suggested_max_num_workers as suggested_max_num_workers

LightningEnum = _Word
move_data_to_device = _move_to_device
