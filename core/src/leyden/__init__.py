"""leyden: a PyTorch training library with a small core, everything else a plug-in."""

from leyden.accelerator import Accelerator
from leyden.callback import Callback
from leyden.checkpoint.allowed import allow_rebuild
from leyden.checkpoint.choose import load_weights
from leyden.checkpoint_io import CheckpointIO
from leyden.component import Component
from leyden.data.combined import CombinedLoader
from leyden.data.split import refuse_overlap, split
from leyden.datamodule import DataModule
from leyden.environment import ClusterEnvironment
from leyden.finite import NonFiniteError
from leyden.hookspecs import hookimpl
from leyden.hparams import AttributeDict
from leyden.interrupts import Terminated
from leyden.limits import at, every, when
from leyden.logger import Logger
from leyden.messages import LeydenWarning, silence
from leyden.metrics.history import History
from leyden.module import Module
from leyden.plugins import PluginError, PluginWarning
from leyden.precision import Precision
from leyden.profiler import Profiler
from leyden.progress import Progress
from leyden.seeding import seed_everything
from leyden.strategy import Strategy
from leyden.trainer import Trainer
from leyden.version import __version__

__all__ = [
    "Accelerator",
    "AttributeDict",
    "Callback",
    "CheckpointIO",
    "ClusterEnvironment",
    "CombinedLoader",
    "Component",
    "DataModule",
    "History",
    "LeydenWarning",
    "Logger",
    "Module",
    "NonFiniteError",
    "PluginError",
    "PluginWarning",
    "Precision",
    "Profiler",
    "Progress",
    "Strategy",
    "Terminated",
    "Trainer",
    "__version__",
    "allow_rebuild",
    "at",
    "every",
    "hookimpl",
    "load_weights",
    "refuse_overlap",
    "seed_everything",
    "silence",
    "split",
    "when",
]
