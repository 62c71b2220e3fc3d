"""Lightning's ``plugins``, for type checkers; written by tools/make_stubs.py."""

from leyden import CheckpointIO as CheckpointIO
from leyden import CheckpointIO as _CheckpointIO
from leyden import ClusterEnvironment as ClusterEnvironment
from leyden import Precision as Precision
from leyden import Precision as _Precision
from leyden import Strategy as _Strategy
from leyden_checkpoint.asynchronous import AsyncCheckpointIO as AsyncCheckpointIO
from leyden_lightning.api.parts import HalfPrecision as HalfPrecision
from leyden_lightning.api.parts import MixedPrecision as MixedPrecision
from leyden_lightning.api.parts import MixedPrecision as _MixedPrecision
from leyden_precision.true import FP64Precision as _FP64Precision
from leyden_strategies.ddp import DDPStrategy as _DDPStrategy
from leyden_strategies.environments.kubeflow import KubeflowEnvironment as KubeflowEnvironment
from leyden_strategies.environments.local import LocalEnvironment as _LocalEnvironment
from leyden_strategies.environments.lsf import LSFEnvironment as LSFEnvironment
from leyden_strategies.environments.mpi import MPIEnvironment as MPIEnvironment
from leyden_strategies.environments.slurm import SLURMEnvironment as SLURMEnvironment
from leyden_strategies.environments.torchelastic import TorchElasticEnvironment as TorchElasticEnvironment
from leyden_strategies.names import DDPSpawnStrategy as _DDPSpawnStrategy
from leyden_strategies.processes import ProcessesStrategy as _ProcessesStrategy
from leyden_strategies.single_device import SingleDeviceStrategy as _SingleDeviceStrategy
from typing import Any

ApexMixedPrecisionPlugin: Any
BitsandbytesPrecision: Any
DDP2Plugin: Any
DDPFullyShardedPlugin: Any
DDPPlugin = _DDPStrategy
DDPShardedPlugin: Any
DDPSpawnPlugin = _DDPSpawnStrategy
DDPSpawnShardedPlugin: Any
DataParallelPlugin: Any
DeepSpeedPlugin: Any
DeepSpeedPrecision: Any
DoublePrecision = _FP64Precision
DoublePrecisionPlugin = _FP64Precision
FSDPPrecision: Any
HPUCheckpointIO: Any
HPUPrecisionPlugin: Any
HorovodPlugin: Any
IPUPlugin: Any
IPUPrecisionPlugin: Any
LayerSync: Any
LightningEnvironment = _LocalEnvironment
MixedPrecisionPlugin = _MixedPrecision
NativeMixedPrecisionPlugin = _MixedPrecision
NativeSyncBatchNorm: Any
ParallelPlugin = _ProcessesStrategy
PrecisionPlugin = _Precision
SingleDevicePlugin = _SingleDeviceStrategy
SingleTPUPlugin: Any
TPUPrecisionPlugin: Any
TPUSpawnPlugin: Any
TorchCheckpointIO = _CheckpointIO
TorchSyncBatchNorm: Any
TrainingTypePlugin = _Strategy
TransformerEnginePrecision: Any
XLACheckpointIO: Any
XLAEnvironment: Any
XLAPrecision: Any
