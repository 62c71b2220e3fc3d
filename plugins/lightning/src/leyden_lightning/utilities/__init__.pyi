"""Lightning's ``utilities``, for type checkers; written by tools/make_stubs.py."""

from leyden import AttributeDict as AttributeDict
from leyden import CombinedLoader as CombinedLoader
from leyden.data.transfer import move_to_device as _move_to_device
from leyden.states import Word as _Word
from leyden_lightning.api.enums import AMPType as AMPType
from leyden_lightning.api.enums import DeviceType as DeviceType
from leyden_lightning.api.enums import DistributedType as DistributedType
from leyden_lightning.api.enums import GradClipAlgorithmType as GradClipAlgorithmType
from leyden_lightning.api.enums import ModelSummaryMode as ModelSummaryMode
from leyden_lightning.api.enums import PrecisionType as PrecisionType
from leyden_lightning.api.rank_zero import LightningDeprecationWarning as LightningDeprecationWarning
from leyden_lightning.api.rank_zero import PossibleUserWarning as PossibleUserWarning
from leyden_lightning.api.rank_zero import WarningCache as WarningCache
from leyden_lightning.api.rank_zero import disable_possible_user_warnings as disable_possible_user_warnings
from leyden_lightning.api.rank_zero import rank_prefixed_message as rank_prefixed_message
from leyden_lightning.api.rank_zero import rank_zero_debug as rank_zero_debug
from leyden_lightning.api.rank_zero import rank_zero_deprecation as rank_zero_deprecation
from leyden_lightning.api.rank_zero import rank_zero_info as rank_zero_info
from leyden_lightning.api.rank_zero import rank_zero_only as rank_zero_only
from leyden_lightning.api.rank_zero import rank_zero_warn as rank_zero_warn
from leyden_lightning.api.seeding import isolate_rng as isolate_rng
from leyden_lightning.api.tools import ModuleAvailableCache as ModuleAvailableCache
from leyden_lightning.api.tools import RequirementCache as RequirementCache
from leyden_lightning.api.tools import _module_available as _module_available
from leyden_lightning.api.tools import apply_to_collection as apply_to_collection
from leyden_lightning.api.tools import apply_to_collections as apply_to_collections
from leyden_lightning.api.tools import compare_version as compare_version
from leyden_lightning.api.tools import convert_tensors_to_scalars as convert_tensors_to_scalars
from leyden_lightning.api.tools import find_shared_parameters as find_shared_parameters
from leyden_lightning.api.tools import flatten_dict as flatten_dict
from leyden_lightning.api.tools import grad_norm as grad_norm
from leyden_lightning.api.tools import is_picklable as is_picklable
from leyden_lightning.api.tools import is_shared_filesystem as is_shared_filesystem
from leyden_lightning.api.tools import measure_flops as measure_flops
from leyden_lightning.api.tools import module_available as module_available
from leyden_lightning.api.tools import set_shared_parameters as set_shared_parameters
from leyden_lightning.api.tools import suggested_max_num_workers as suggested_max_num_workers

LightningEnum = _Word
move_data_to_device = _move_to_device
