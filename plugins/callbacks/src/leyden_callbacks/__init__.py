"""What most runs want beside training: checkpoints, early stopping, progress, a summary, learning rates.

A module is imported when something of it is asked for, so that choosing one part by name imports none of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leyden.lazy import lazy

if TYPE_CHECKING:
    from leyden_callbacks.activation_checkpointing import ActivationCheckpointing
    from leyden_callbacks.batch_size_finder import BatchSizeFinder
    from leyden_callbacks.checkpoint import ModelCheckpoint
    from leyden_callbacks.csv_predictions import CSVPredictions
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
    from leyden_callbacks.param_scheduler import ParamScheduler
    from leyden_callbacks.parameter_monitor import ParameterMonitor
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
    "ActivationCheckpointing",
    "BackboneFinetuning",
    "BaseFinetuning",
    "BatchSizeFinder",
    "CSVPredictions",
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
    "ParamScheduler",
    "ParameterMonitor",
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

_HOMES = {
    "ActivationCheckpointing": "activation_checkpointing",
    "BackboneFinetuning": "finetuning",
    "BaseFinetuning": "finetuning",
    "BatchSizeFinder": "batch_size_finder",
    "CSVPredictions": "csv_predictions",
    "DataStall": "data_stall",
    "DeviceStatsMonitor": "device_stats",
    "EMA": "ema",
    "EarlyStopping": "early_stopping",
    "EarlyStoppingReason": "early_stopping",
    "GarbageCollection": "garbage_collection",
    "GradientAccumulationScheduler": "gradient_accumulation_scheduler",
    "LambdaCallback": "lambda_callback",
    "LearningRateFinder": "learning_rate_finder",
    "LearningRateMonitor": "learning_rate_monitor",
    "MemorySnapshot": "memory_snapshot",
    "ModelCheckpoint": "checkpoint",
    "ModelPruning": "pruning",
    "ModelSummary": "model_summary",
    "OOMMicrobatch": "oom_microbatch",
    "OnExceptionCheckpoint": "on_exception_checkpoint",
    "ParamScheduler": "param_scheduler",
    "ParameterMonitor": "parameter_monitor",
    "PredictionWriter": "prediction_writer",
    "ProgressBar": "progress",
    "RangeTest": "learning_rate_finder",
    "RestoreBest": "restore_best",
    "RichModelSummary": "model_summary",
    "RichProgressBar": "progress",
    "SlowRank": "slow_rank",
    "SpikeDetection": "spike_detection",
    "StochasticWeightAveraging": "stochastic_weight_averaging",
    "TQDMProgressBar": "progress",
    "ThroughputMonitor": "throughput",
    "Timer": "timer",
    "TorchPredictionWriter": "prediction_writer",
    "TrainingSpikeError": "spike_detection",
    "Tuner": "tuner",
    "progress_bar": "progress",
    "summarize": "model_summary",
}

__getattr__ = lazy(globals(), _HOMES)
