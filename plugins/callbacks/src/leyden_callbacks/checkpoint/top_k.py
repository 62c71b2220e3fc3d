"""Which checkpoints are good enough to keep."""

from __future__ import annotations

import math


class TopK:
    """Names with their scores, at most ``k`` of them, the best ones.

    A score that is not finite is worse than any that is: whatever the mode, NaN or an infinity replaces no number.
    """

    def __init__(self, k: int, mode: str) -> None:
        self.k = k
        """How many to keep; -1 keeps all."""

        self.mode = mode
        self.scores: dict[str, float] = {}

    def is_better(self, score: float, other: float) -> bool:
        """Whether ``score`` is strictly better than ``other``."""
        return self._rank(score) > self._rank(other)

    def admits(self, score: float) -> bool:
        """Whether a checkpoint of that score would be kept."""
        if self.k < 0 or len(self.scores) < self.k:
            return True
        return self.k > 0 and self.is_better(score, self.scores[self.worst])

    def victim(self) -> str | None:
        """Which one goes when one more is added."""
        return self.worst if 0 < self.k <= len(self.scores) else None

    def add(self, name: str, score: float) -> list[str]:
        """Adds a checkpoint; returns the names that are not kept any more."""
        self.scores[name] = score
        removed = []
        while 0 <= self.k < len(self.scores):
            removed.append(self.worst)
            del self.scores[self.worst]
        return removed

    @property
    def best(self) -> str:
        """The name of the best one, the oldest of several; empty if there is none."""
        return max(self.scores, key=lambda name: self._rank(self.scores[name]), default="")

    @property
    def worst(self) -> str:
        """The name of the worst one, the newest of several; empty if there is none."""
        return min(reversed(self.scores), key=lambda name: self._rank(self.scores[name]), default="")

    def _rank(self, score: float) -> tuple[bool, float]:
        if not math.isfinite(score):
            return False, 0.0
        return True, score if self.mode == "max" else -score
