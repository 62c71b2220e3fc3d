"""Lightning's ``utilities.model_summary.model_summary``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import ModelSummary as ModelSummary
from leyden_lightning.api.tools import get_formatted_model_size as get_formatted_model_size
from leyden_lightning.api.tools import get_human_readable_count as get_human_readable_count
from typing import Any

summarize: Any
