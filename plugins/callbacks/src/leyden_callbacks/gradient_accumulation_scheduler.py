"""Changes how many batches make an optimizer step, from one epoch to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from leyden import Callback
from leyden.messages import shown

if TYPE_CHECKING:
    from leyden import Module, Trainer


class GradientAccumulationScheduler(Callback):
    """Accumulates as many batches as ``scheduling`` says for the running epoch.

    Args:
        scheduling: from the number of an epoch, counted from 0, to the batches of a step from that epoch on:
            ``{0: 8, 4: 4, 8: 1}``. Before the first of them it is the Trainer's ``accumulate_grad_batches``.

    Raises:
        TypeError: it is no dict of ints.
        ValueError: it is empty, an epoch is negative or a number of batches is less than 1.
    """

    name = "gradient_accumulation_scheduler"

    def __init__(self, scheduling: Mapping[int, int]) -> None:
        where = f"{type(self).__name__}(scheduling={scheduling!r})"
        if not isinstance(scheduling, Mapping):
            raise TypeError(f"{where}: expected a dict such as {{0: 8, 4: 1}}, got {shown(scheduling)}")
        if not scheduling:
            raise ValueError(f"{where}: expected at least one epoch, such as {{0: 8}}")
        for epoch, batches in scheduling.items():
            for what, value, least in (("epoch", epoch, 0), ("number of batches", batches, 1)):
                if not isinstance(value, int) or isinstance(value, bool):
                    raise TypeError(f"{where}: the {what} {value!r} is no int")
                if value < least:
                    raise ValueError(f"{where}: the {what} {value} is less than {least}")
        self.scheduling = dict(sorted(scheduling.items()))
        self._usual: int | None = None

    def batches_in(self, epoch: int) -> int | None:
        """The batches of a step in an epoch; None before the first that was given."""
        return next((batches for start, batches in reversed(self.scheduling.items()) if start <= epoch), None)

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Refuses two answers to one question.

        Raises:
            ValueError: the Trainer accumulates too, or carries windows from one epoch to the next.
        """
        if stage != "fit":
            return
        if trainer.accumulate_grad_batches != 1:
            raise ValueError(
                f"{type(self).__name__} and Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches}) both say how many "
                f"batches make a step; leave out one of them"
            )
        if trainer.carry_accumulation:
            raise ValueError(
                f"{type(self).__name__} begins a step with each epoch, so Trainer(carry_accumulation=True) cannot be met"
            )
        self._usual = trainer.accumulate_grad_batches

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Has the loop expect changes; goes on as it was inside the epoch that a checkpoint was taken in."""
        step = trainer.train_step
        running = step.state_dict()  # a window that a checkpoint was taken in goes on
        trainer.accumulate(self.batches_in(trainer.current_epoch) or trainer.accumulate_grad_batches)
        step.load_state_dict(running)

    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """Changes the number where this epoch has another."""
        batches = self.batches_in(trainer.current_epoch)
        if batches is not None and batches != trainer.accumulate_grad_batches:
            trainer.accumulate(batches)

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Puts the Trainer's own number back."""
        if self._usual is not None:
            trainer.accumulate_grad_batches, self._usual = self._usual, None
