"""What a resumed run takes over of the checkpoints that its checkpoint knew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leyden_callbacks.checkpoint.folder import Folder


@dataclass
class TakenOver:
    """The part of a state that holds for the files that are there."""

    scores: dict[str, float]
    """The kept checkpoints in the folder, which are this run's to delete."""

    last: str
    """The name of the newest state in the folder; empty if it is not there."""

    best_elsewhere: tuple[str, float] | None
    """The path and the score of the best one, if it is in another folder; NaN if it has no score."""


def take_over(state: Mapping[str, Any], here: Folder, origin: Folder | None) -> TakenOver:
    """Compares a state with the files that are there.

    The state comes from a file, which may name what it likes: only what lies in ``here`` becomes this run's.

    Args:
        state: of a checkpoint callback; also Lightning's, whose paths are absolute.
        here: where this run saves.
        origin: where the checkpoint lies from which the run goes on; None if that is not known.
    """
    before = state.get("dirpath") or ""  # Lightning's

    def local(path: str) -> str:
        return Folder(before).name(path) if before and path.startswith(before) else path

    def is_ours(name: str) -> bool:
        return bool(name) and here.holds(name) and here.has(name)

    scores = {local(path): float(score) for path, score in (state.get("best_k_models") or {}).items()}
    kept = {name: score for name, score in scores.items() if is_ours(name)}
    last = local(state.get("last_model_path") or "")
    best, score = state.get("best_model_path") or "", state.get("best_model_score")
    elsewhere = None
    if best and local(best) not in kept:
        for folder in (here, origin):
            if folder is not None and elsewhere is None and folder.has(best):
                elsewhere = (folder.of(best), math.nan if score is None else float(score))
    return TakenOver(kept, last if is_ours(last) else "", elsewhere)
