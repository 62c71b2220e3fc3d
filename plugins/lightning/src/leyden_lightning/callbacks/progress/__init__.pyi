"""Lightning's ``callbacks.progress``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import ProgressBar as ProgressBar
from leyden_lightning.api.callbacks import ProgressBar as _ProgressBar
from leyden_lightning.api.callbacks import RichProgressBar as RichProgressBar
from leyden_lightning.api.callbacks import TQDMProgressBar as TQDMProgressBar
from leyden_lightning.api.inside import get_standard_metrics as get_standard_metrics

ProgressBarBase = _ProgressBar
