"""What most runs want beside training: checkpoints, early stopping, progress, a summary, learning rates."""

from leyden_callbacks.batch_size_finder import BatchSizeFinder
from leyden_callbacks.checkpoint import ModelCheckpoint
from leyden_callbacks.data_stall import DataStall
from leyden_callbacks.device_stats import DeviceStatsMonitor
from leyden_callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
from leyden_callbacks.ema import EMA
from leyden_callbacks.finetuning import BackboneFinetuning, BaseFinetuning
from leyden_callbacks.garbage_collection import GarbageCollection
from leyden_callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler
from leyden_callbacks.lambda_callback import LambdaCallback
from leyden_callbacks.learning_rate_finder import LearningRateFinder, RangeTest
from leyden_callbacks.learning_rate_monitor import LearningRateMonitor
from leyden_callbacks.memory_snapshot import MemorySnapshot
from leyden_callbacks.model_summary import ModelSummary, RichModelSummary, summarize
from leyden_callbacks.on_exception_checkpoint import OnExceptionCheckpoint
from leyden_callbacks.oom_microbatch import OOMMicrobatch
from leyden_callbacks.prediction_writer import PredictionWriter, TorchPredictionWriter
from leyden_callbacks.progress import ProgressBar, RichProgressBar, TQDMProgressBar, progress_bar
from leyden_callbacks.pruning import ModelPruning
from leyden_callbacks.restore_best import RestoreBest
from leyden_callbacks.slow_rank import SlowRank
from leyden_callbacks.spike_detection import SpikeDetection, TrainingSpikeError
from leyden_callbacks.stochastic_weight_averaging import StochasticWeightAveraging
from leyden_callbacks.throughput import ThroughputMonitor
from leyden_callbacks.timer import Timer
from leyden_callbacks.tuner import Tuner

__all__ = [
    "EMA",
    "BackboneFinetuning",
    "BaseFinetuning",
    "BatchSizeFinder",
    "DataStall",
    "DeviceStatsMonitor",
    "EarlyStopping",
    "EarlyStoppingReason",
    "GarbageCollection",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateFinder",
    "LearningRateMonitor",
    "MemorySnapshot",
    "ModelCheckpoint",
    "ModelPruning",
    "ModelSummary",
    "OOMMicrobatch",
    "OnExceptionCheckpoint",
    "PredictionWriter",
    "ProgressBar",
    "RangeTest",
    "RestoreBest",
    "RichModelSummary",
    "RichProgressBar",
    "SlowRank",
    "SpikeDetection",
    "StochasticWeightAveraging",
    "TQDMProgressBar",
    "ThroughputMonitor",
    "Timer",
    "TorchPredictionWriter",
    "TrainingSpikeError",
    "Tuner",
    "progress_bar",
    "summarize",
]
