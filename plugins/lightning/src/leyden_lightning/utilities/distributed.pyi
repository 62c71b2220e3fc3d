"""Lightning's ``utilities.distributed``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.rank_zero import rank_zero_debug as rank_zero_debug
from leyden_lightning.api.rank_zero import rank_zero_deprecation as rank_zero_deprecation
from leyden_lightning.api.rank_zero import rank_zero_info as rank_zero_info
from leyden_lightning.api.rank_zero import rank_zero_only as rank_zero_only
from leyden_lightning.api.rank_zero import rank_zero_warn as rank_zero_warn
from leyden_lightning.api.tools import distributed_available as distributed_available
from leyden_lightning.api.tools import gather_all_tensors as gather_all_tensors
from leyden_lightning.api.tools import sync_ddp_if_available as sync_ddp_if_available
