"""Lightning's ``fabric.utilities.rank_zero``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.rank_zero import LightningDeprecationWarning as LightningDeprecationWarning
from leyden_lightning.api.rank_zero import PossibleUserWarning as PossibleUserWarning
from leyden_lightning.api.rank_zero import WarningCache as WarningCache
from leyden_lightning.api.rank_zero import rank_prefixed_message as rank_prefixed_message
from leyden_lightning.api.rank_zero import rank_zero_debug as rank_zero_debug
from leyden_lightning.api.rank_zero import rank_zero_deprecation as rank_zero_deprecation
from leyden_lightning.api.rank_zero import rank_zero_info as rank_zero_info
from leyden_lightning.api.rank_zero import rank_zero_only as rank_zero_only
from leyden_lightning.api.rank_zero import rank_zero_warn as rank_zero_warn
