"""What most runs want beside training: checkpoints, early stopping, progress, a summary, learning rates."""

from leyden_callbacks.checkpoint import ModelCheckpoint
from leyden_callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
from leyden_callbacks.learning_rate_monitor import LearningRateMonitor
from leyden_callbacks.model_summary import ModelSummary, summarize
from leyden_callbacks.prediction_writer import PredictionWriter, TorchPredictionWriter
from leyden_callbacks.progress import ProgressBar, RichProgressBar, TQDMProgressBar, progress_bar

__all__ = [
    "EarlyStopping",
    "EarlyStoppingReason",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "PredictionWriter",
    "ProgressBar",
    "RichProgressBar",
    "TQDMProgressBar",
    "TorchPredictionWriter",
    "progress_bar",
    "summarize",
]
