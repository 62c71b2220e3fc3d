"""Tells callbacks after which batches the loop reads and records what was logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leyden import Trainer


class LogPoints:
    """The log points of a run: one for every ``log_every_n_steps`` optimizer steps, however many batches make a step."""

    def __init__(self) -> None:
        self._step = -1

    def start(self, trainer: Trainer) -> None:
        """To be called when training starts: what a checkpoint was taken at is none to come."""
        self._step = trainer.global_step

    def is_reached(self, trainer: Trainer) -> bool:
        """Whether the batch that ends reached one; to be called once for each batch."""
        step, every = trainer.global_step, trainer.log_every_n_steps
        if step == self._step:
            return False
        self._step = step
        return bool(every) and step % every == 0
