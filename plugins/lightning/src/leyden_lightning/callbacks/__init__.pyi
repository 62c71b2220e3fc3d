"""Lightning's ``callbacks``, for type checkers; written by tools/make_stubs.py."""

from leyden import Callback as Callback
from leyden_callbacks.batch_size_finder import BatchSizeFinder as BatchSizeFinder
from leyden_callbacks.device_stats import DeviceStatsMonitor as DeviceStatsMonitor
from leyden_callbacks.device_stats import DeviceStatsMonitor as _DeviceStatsMonitor
from leyden_callbacks.finetuning import BackboneFinetuning as BackboneFinetuning
from leyden_callbacks.finetuning import BaseFinetuning as BaseFinetuning
from leyden_callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler as GradientAccumulationScheduler
from leyden_callbacks.lambda_callback import LambdaCallback as LambdaCallback
from leyden_callbacks.learning_rate_finder import LearningRateFinder as LearningRateFinder
from leyden_callbacks.learning_rate_monitor import LearningRateMonitor as LearningRateMonitor
from leyden_callbacks.learning_rate_monitor import LearningRateMonitor as _LearningRateMonitor
from leyden_callbacks.on_exception_checkpoint import OnExceptionCheckpoint as OnExceptionCheckpoint
from leyden_callbacks.spike_detection import SpikeDetection as SpikeDetection
from leyden_callbacks.throughput import ThroughputMonitor as ThroughputMonitor
from leyden_callbacks.timer import Timer as Timer
from leyden_lightning.api.callbacks import BasePredictionWriter as BasePredictionWriter
from leyden_lightning.api.callbacks import Checkpoint as Checkpoint
from leyden_lightning.api.callbacks import EMAWeightAveraging as EMAWeightAveraging
from leyden_lightning.api.callbacks import EarlyStopping as EarlyStopping
from leyden_lightning.api.callbacks import ModelCheckpoint as ModelCheckpoint
from leyden_lightning.api.callbacks import ModelPruning as ModelPruning
from leyden_lightning.api.callbacks import ModelSummary as ModelSummary
from leyden_lightning.api.callbacks import ProgressBar as ProgressBar
from leyden_lightning.api.callbacks import ProgressBar as _ProgressBar
from leyden_lightning.api.callbacks import RichModelSummary as RichModelSummary
from leyden_lightning.api.callbacks import RichProgressBar as RichProgressBar
from leyden_lightning.api.callbacks import StochasticWeightAveraging as StochasticWeightAveraging
from leyden_lightning.api.callbacks import TQDMProgressBar as TQDMProgressBar
from typing import Any

GPUStatsMonitor = _DeviceStatsMonitor
LearningRateLogger = _LearningRateMonitor
ProgressBarBase = _ProgressBar
QuantizationAwareTraining: Any
WeightAveraging: Any
XLAStatsMonitor = _DeviceStatsMonitor
