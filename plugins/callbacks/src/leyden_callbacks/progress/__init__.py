"""Shows how far a run is."""

from __future__ import annotations

from importlib.util import find_spec

from leyden_callbacks.arguments import check_choice
from leyden_callbacks.progress.base import ProgressBar
from leyden_callbacks.progress.rich_bar import RichProgressBar
from leyden_callbacks.progress.tqdm_bar import TQDMProgressBar

__all__ = ["ProgressBar", "RichProgressBar", "TQDMProgressBar", "progress_bar"]


def progress_bar(kind: str = "tqdm", refresh_rate: int = 1, leave: bool = False) -> ProgressBar:
    """Returns the progress bar registered as ``"progress"``.

    Args:
        kind: ``"tqdm"``, ``"rich"``, or ``"auto"`` for rich where it is installed.
        refresh_rate: batches between redraws at least; 0 shows nothing.
        leave: whether each epoch's bar stays on the screen.

    Raises:
        ImportError: rich is asked for and not installed.
        TypeError: an argument has the wrong type.
        ValueError: there is no such kind.
    """
    check_choice("progress_bar", "kind", kind, ("tqdm", "rich", "auto"))
    if kind == "rich" or (kind == "auto" and find_spec("rich") is not None):
        return RichProgressBar(refresh_rate, leave)
    return TQDMProgressBar(refresh_rate, leave)
