"""A logged value that a callback watches: whether there is one, and whether it describes the weights as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from leyden.messages import did_you_mean, listed, nearest, warn
from leyden.progress import END, VALIDATION
from torch import Tensor

if TYPE_CHECKING:
    from leyden import Trainer

COUNTERS = ("epoch", "step", "global_step")
"""Keys that can always be watched, logged or not."""


def ends_with_validation(trainer: Trainer) -> bool:
    """Whether the last thing before the end of each epoch is a validation, or there is none at all."""
    if not any(trainer.num_val_batches):
        return True
    # An int counts batches: 1 means after each batch, 1.0 once an epoch.
    once = isinstance(trainer.val_check_interval, float) and trainer.val_check_interval == 1.0
    return once and trainer.check_val_every_n_epoch == 1


def warn_if_never(trainer: Trainer, what: str, does: str) -> None:
    """Says that what is to be done after validations only is never done, where a run has none."""
    if not any(trainer.num_val_batches) and not trainer.fast_dev_run:
        warn("LYC04", f"{what} {does} after validations, and this run has none, so that it never does; leave that out")


def counters(trainer: Trainer) -> dict[str, Any]:
    """What :data:`COUNTERS` stand for unless the module logs values under those names."""
    return {"epoch": trainer.current_epoch, "step": trainer.global_step, "global_step": trainer.global_step}


def is_after_validation(trainer: Trainer) -> bool:
    """Whether the last hook of a validation is running, or was when the checkpoint was taken that a run goes on from."""
    progress = trainer.progress
    return progress.moment == VALIDATION and progress.validation.moment == END


class Monitor:
    """The value logged as ``key``, watched by a callback that messages call ``owner``."""

    def __init__(self, owner: str, key: str) -> None:
        self.owner = owner
        self.key = key
        self.start()

    def start(self) -> None:
        """Forgets what was seen; a run begins."""
        self._validated = False
        self._before: Any = None
        self._measured_at: int | None = None
        self._used: Any = None
        self._trainer: Trainer | None = None

    def state_dict(self) -> dict[str, Any]:
        """Whether the value there is was taken, if there is one, and when it was measured."""
        value = self._trainer.callback_metrics.get(self.key) if self._trainer is not None else None
        return {"taken": value is self._used, "measured_at": self._measured_at}

    def go_on(self, trainer: Trainer, state: Mapping[str, Any] | None) -> None:
        """To be called when training starts: takes back what :meth:`state_dict` gave; without it the value there is was taken."""
        self._trainer = trainer
        self._used = trainer.callback_metrics.get(self.key) if state is None or state["taken"] else None
        self._measured_at = state["measured_at"] if state is not None else None
        if self._used is None and is_after_validation(trainer):
            self._measured_at = trainer.global_step  # its owner was not told yet

    # ---- whether it exists ----

    def check_spelling(self, trainer: Trainer) -> None:
        """Refuses a key that is a mistyped key of the validation, as far as the sanity check showed those.

        A key unlike any of them may still be logged in training: :meth:`require` refuses it when that is known.

        Raises:
            ValueError: with the keys there are.
        """
        known = trainer.metrics.known_keys()
        if not trainer.is_global_zero:
            return  # rank 0 may log it alone
        if self.key not in known and self.key not in COUNTERS and mistyped(self.key, known):
            raise ValueError(self._missing(trainer))

    def require(self, trainer: Trainer, *, epoch_over: bool) -> None:
        """Refuses a key that was not logged although everything that could log it has run.

        Args:
            trainer: of the run.
            epoch_over: whether a whole training epoch is over; one without an end is not waited for.

        Raises:
            ValueError: with the keys there are, the nearest first.
        """
        if self.is_missing(trainer, epoch_over=epoch_over):
            raise ValueError(self._missing(trainer))

    def is_missing(self, trainer: Trainer, *, epoch_over: bool) -> bool:
        """Whether it was not logged although everything that could log it has run; rank 0's values are those that count."""
        if not trainer.is_global_zero:
            return False
        if self.key in COUNTERS or self.key in trainer.callback_metrics or self.key in trainer.metrics.known_keys():
            return False
        if any(trainer.num_val_batches) and not self._validated:
            return False
        return epoch_over or trainer.num_training_batches == float("inf")

    def _missing(self, trainer: Trainer) -> str:
        known = sorted({*trainer.metrics.known_keys(), *trainer.callback_metrics})
        hint = did_you_mean(self.key, known) or "."
        return (
            f"{self.owner}(monitor={self.key!r}): {self.key!r} was not logged{hint} Logged: {listed(known)}; "
            f"log it with self.log({self.key!r}, value) or monitor one of these"
        )

    # ---- its value ----

    def validation_started(self, trainer: Trainer) -> None:
        """To be called at the start of each validation in training."""
        self._before = trainer.callback_metrics.get(self.key)

    def validation_ended(self, trainer: Trainer) -> None:
        """To be called at the end of each validation in training."""
        self._validated = True
        # Every validation puts a new tensor under each key that it logs.
        if trainer.callback_metrics.get(self.key) is not self._before:
            self._measured_at = trainer.global_step

    def take(self, trainer: Trainer) -> float | None:
        """The value if it is new and, being of a validation, of one that saw the weights as they are now.

        Every process calls it and gets rank 0's. Reads from the device.

        Returns:
            None if there is no such value; it is taken once.
        """
        value: Any = trainer.callback_metrics.get(self.key)
        number: float | None = None
        if value is None:
            value = counters(trainer).get(self.key)
        outdated = self._measured_at is not None and self._measured_at != trainer.global_step
        used = isinstance(value, Tensor) and value is self._used
        if value is not None and not outdated and not used:
            self._used = value
            number = float(value)
        # A training step's value differs between processes; their decisions must not.
        return trainer.strategy.broadcast(number)


def mistyped(key: str, known: Iterable[str]) -> bool:
    """Whether ``key`` is so like one of ``known`` that it can hardly be meant for another value.

    ``acc_top1`` beside ``acc_top5`` and ``loss_a`` beside ``loss_b`` are meant; ``val_los`` beside ``val_loss`` is not.
    """
    match = nearest(key, known, cutoff=0.85)
    if match is None:
        return False
    different = set(re.split(r"[\W_]+", key)) ^ set(re.split(r"[\W_]+", match))
    return not any(len(word) == 1 or any(character.isdigit() for character in word) for word in different)
