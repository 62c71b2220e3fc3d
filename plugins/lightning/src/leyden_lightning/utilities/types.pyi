"""Lightning's ``utilities.types``, for type checkers; written by tools/make_stubs.py."""

from leyden.optim.configure import SchedulerConfig as _SchedulerConfig
from leyden_lightning.api.types import EPOCH_OUTPUT as EPOCH_OUTPUT
from leyden_lightning.api.types import EVAL_DATALOADERS as EVAL_DATALOADERS
from leyden_lightning.api.types import LRScheduler as LRScheduler
from leyden_lightning.api.types import LRSchedulerConfigType as LRSchedulerConfigType
from leyden_lightning.api.types import LRSchedulerPLType as LRSchedulerPLType
from leyden_lightning.api.types import LRSchedulerType as LRSchedulerType
from leyden_lightning.api.types import LRSchedulerTypeTuple as LRSchedulerTypeTuple
from leyden_lightning.api.types import LRSchedulerTypeUnion as LRSchedulerTypeUnion
from leyden_lightning.api.types import Optimizable as Optimizable
from leyden_lightning.api.types import OptimizerConfig as OptimizerConfig
from leyden_lightning.api.types import OptimizerLRScheduler as OptimizerLRScheduler
from leyden_lightning.api.types import OptimizerLRSchedulerConfig as OptimizerLRSchedulerConfig
from leyden_lightning.api.types import ReduceLROnPlateau as ReduceLROnPlateau
from leyden_lightning.api.types import STEP_OUTPUT as STEP_OUTPUT
from leyden_lightning.api.types import Steppable as Steppable
from leyden_lightning.api.types import TRAIN_DATALOADERS as TRAIN_DATALOADERS
from leyden_lightning.api.types import _DEVICE as _DEVICE
from leyden_lightning.api.types import _EVALUATE_OUTPUT as _EVALUATE_OUTPUT
from leyden_lightning.api.types import _LRScheduler as _LRScheduler
from leyden_lightning.api.types import _MAP_LOCATION_TYPE as _MAP_LOCATION_TYPE
from leyden_lightning.api.types import _METRIC as _METRIC
from leyden_lightning.api.types import _METRIC_COLLECTION as _METRIC_COLLECTION
from leyden_lightning.api.types import _PATH as _PATH
from leyden_lightning.api.types import _PREDICT_OUTPUT as _PREDICT_OUTPUT

LRSchedulerConfig = _SchedulerConfig
