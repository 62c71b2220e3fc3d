"""Collects garbage at the same steps in every process."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from leyden import Callback

from leyden_callbacks.arguments import check_int

if TYPE_CHECKING:
    from leyden import Module, Trainer


class GarbageCollection(Callback):
    """Switches Python's own garbage collector off during training, and collects every so many steps.

    Left to itself, the collector stops each process at another moment, and at every such moment all others wait for it.

    Args:
        every_n_steps: optimizer steps between two collections.
        generation: 0, 1 or 2: how much is looked at; 2 is everything.

    Raises:
        TypeError: an argument is no int.
        ValueError: an argument is out of range.
    """

    name = "garbage_collection"

    def __init__(self, every_n_steps: int = 100, generation: int = 1) -> None:
        owner = type(self).__name__
        check_int(owner, "every_n_steps", every_n_steps, 1)
        check_int(owner, "generation", generation, 0)
        if generation > 2:
            raise ValueError(f"{owner}(generation={generation!r}): expected 0, 1 or 2")
        self.every_n_steps = every_n_steps
        self.generation = generation
        self._was_on = False
        self._last = -1

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Collects everything, then switches the collector off."""
        self._was_on, self._last = gc.isenabled(), trainer.global_step
        gc.collect()
        gc.disable()

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Collects, when it is time."""
        step = trainer.global_step
        if step % self.every_n_steps == 0 and step != self._last:
            self._last = step
            gc.collect(self.generation)

    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """Collects: where all processes meet anyway."""
        if not gc.isenabled():
            gc.collect(self.generation)

    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Switches the collector on again."""
        self._put_back()

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Also when training failed."""
        self._put_back()

    def _put_back(self) -> None:
        if self._was_on:
            gc.enable()
            self._was_on = False
