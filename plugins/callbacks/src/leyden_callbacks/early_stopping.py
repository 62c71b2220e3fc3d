"""Stops training when a logged value stops improving."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback, hookimpl
from leyden.messages import announce, warn
from torch import Tensor

from leyden_callbacks.arguments import check_bool, check_choice, check_int, check_key, check_number
from leyden_callbacks.monitor import Monitor, ends_with_validation, is_after_validation, warn_if_never
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class EarlyStoppingReason(Enum):
    """Why training was stopped."""

    NOT_STOPPED = 0
    STOPPING_THRESHOLD = 1
    DIVERGENCE_THRESHOLD = 2
    PATIENCE_EXHAUSTED = 3
    NON_FINITE_METRIC = 4


class EarlyStopping(Callback):
    """Stops training when ``monitor`` has not improved at ``patience`` checks in a row.

    Each new value is checked once: at the end of each epoch if that ends with a validation or there is none, else after each
    validation.

    Args:
        monitor: the key of a logged value.
        min_delta: what is more than this better is an improvement.
        patience: checks without improvement until training stops.
        verbose: whether to say on standard error that the value improved.
        mode: ``"min"`` or ``"max"``, what is better.
        strict: whether a monitor that nobody logs is an error; otherwise a warning.
        check_finite: whether to stop when the value is NaN or infinite.
        stopping_threshold: stop when the value is better than this.
        divergence_threshold: stop when the value is worse than this.
        check_on_train_epoch_end: True checks at the end of each epoch, False after each validation.
        log_rank_zero_only: whether rank 0 alone says what there is to say; otherwise every rank does, with its number. All
            ranks decide by the same values, so that by default one speaks.
        baseline: what the value must be better than to count as an improvement at all.
        start_from_epoch: epochs at the start whose values are not looked at.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "early_stopping"
    role = "early_stopping"
    takes_state_in_evaluation = False

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: str = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = True,
        baseline: float | None = None,
        start_from_epoch: int = 0,
    ) -> None:
        owner = type(self).__name__
        check_key(owner, "monitor", monitor)
        check_number(owner, "min_delta", min_delta, 0)
        check_int(owner, "patience", patience, 0)
        check_choice(owner, "mode", mode, ("min", "max"))
        check_int(owner, "start_from_epoch", start_from_epoch, 0)
        for argument, threshold in (
            ("stopping_threshold", stopping_threshold),
            ("divergence_threshold", divergence_threshold),
            ("baseline", baseline),
        ):
            if threshold is not None:
                check_number(owner, argument, threshold)
        for argument, switch in (
            ("verbose", verbose),
            ("strict", strict),
            ("check_finite", check_finite),
            ("log_rank_zero_only", log_rank_zero_only),
        ):
            check_bool(owner, argument, switch)
        if check_on_train_epoch_end is not None:
            check_bool(owner, "check_on_train_epoch_end", check_on_train_epoch_end)
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.log_rank_zero_only = log_rank_zero_only
        self.baseline = baseline
        self.start_from_epoch = start_from_epoch
        self._at_epoch_end = check_on_train_epoch_end
        self._watched = Monitor(owner, monitor)
        self._watched_before: dict[str, Any] | None = None  # as a checkpoint has it
        self._warned = False
        self._reset()

    def _reset(self) -> None:
        self.wait_count = 0
        """Checks since the last improvement."""
        self.stopped_epoch = 0
        """The epoch in which training was stopped; 0 also if it was not."""
        worst = math.inf if self.mode == "min" else -math.inf
        self.best_score: Tensor = torch.tensor(worst if self.baseline is None else self.baseline)
        """The best value so far, shape ``()``; the baseline, or infinitely bad, if there is none."""
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None

    # ---- state ----

    @property
    def state_key(self) -> str:
        """Tells apart callbacks that monitor different values."""
        return f"{type(self).__qualname__}{ {'monitor': self.monitor, 'mode': self.mode}!r}"

    def state_dict(self) -> dict[str, Any]:
        """How long there was no improvement, and since which value."""
        return {
            "wait_count": self.wait_count,
            "stopped_epoch": self.stopped_epoch,
            "best_score": float(self.best_score),
            "stopping_reason": self.stopping_reason.value,
            "watched": self._watched.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that back; ``patience`` stays as given to this object."""
        self.wait_count = int(state_dict["wait_count"])
        self.stopped_epoch = int(state_dict["stopped_epoch"])
        self.best_score = torch.tensor(float(state_dict["best_score"]))
        self.stopping_reason = EarlyStoppingReason(state_dict.get("stopping_reason", 0))
        self._watched_before = state_dict.get("watched")

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """A fit starts anew; one that goes on from a checkpoint gets its state after this."""
        if stage == "fit":
            self._reset()
            self._watched.start()
            self._watched_before = None
            self._warned = False

    def validate_run(self, trainer: Trainer, module: Module) -> None:
        """Refuses a monitor that is a mistyped key of the validation."""
        if self.strict and not trainer.fast_dev_run:
            self._watched.check_spelling(trainer)
        if self._at_epoch_end is False:
            warn_if_never(trainer, f"{type(self).__name__}(check_on_train_epoch_end=False)", "checks")

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Checks a value that the run goes on with, if a checkpoint was taken just before it would have been."""
        self._watched.go_on(trainer, self._watched_before)
        if trainer.progress.epoch_ended if self._checks_at_epoch_end(trainer) else is_after_validation(trainer):
            self._check(trainer, epoch_over=False)

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """Remembers the value before this validation, to know a new one."""
        if _is_training(trainer):
            self._watched.validation_started(trainer)

    @hookimpl(trylast=True)
    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """Checks the value, where each validation is checked."""
        if not _is_training(trainer):
            return
        self._watched.validation_ended(trainer)
        if not self._checks_at_epoch_end(trainer):
            self._check(trainer, epoch_over=False)

    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Checks the value, where each epoch is checked."""
        if trainer.fast_dev_run:
            return
        if self._checks_at_epoch_end(trainer):
            self._check(trainer, epoch_over=True)
        else:
            self._require(trainer, epoch_over=True)

    def _checks_at_epoch_end(self, trainer: Trainer) -> bool:
        return ends_with_validation(trainer) if self._at_epoch_end is None else self._at_epoch_end

    def _require(self, trainer: Trainer, *, epoch_over: bool) -> None:
        if self.strict:
            self._watched.require(trainer, epoch_over=epoch_over)
        elif not self._warned and self._watched.is_missing(trainer, epoch_over=epoch_over):
            self._warned = True
            warn(
                "LYC02",
                f"{type(self).__name__}(monitor={self.monitor!r}): nothing logs {self.monitor!r}, so it never stops training; "
                f"strict=True makes this an error",
            )

    # ---- deciding ----

    def _check(self, trainer: Trainer, *, epoch_over: bool) -> None:
        self._require(trainer, epoch_over=epoch_over)
        value = self._watched.take(trainer)
        if value is None or trainer.current_epoch < self.start_from_epoch:
            return
        reason, why = self._judge(value, trainer)
        if reason is EarlyStoppingReason.NOT_STOPPED:
            return
        self.stopping_reason, self.stopping_reason_message = reason, why
        self.stopped_epoch = trainer.current_epoch
        trainer.should_stop = True
        self._say(trainer, f"training stops early in epoch {trainer.current_epoch}: {why}")

    def _say(self, trainer: Trainer, text: str) -> None:
        if trainer.is_global_zero or self.log_rank_zero_only:
            say(trainer, text)
        else:
            announce(f"rank {trainer.strategy.rank}: {text}")

    def _judge(self, value: float, trainer: Trainer) -> tuple[EarlyStoppingReason, str]:
        """Counts the value in; whether it stops training, and why."""
        key, best = self.monitor, float(self.best_score)
        if self.check_finite and not math.isfinite(value):
            return EarlyStoppingReason.NON_FINITE_METRIC, f"{key} is {value}; the best was {best:g}"
        if self.stopping_threshold is not None and self._is_better(value, self.stopping_threshold):
            self.best_score = torch.tensor(value)
            return EarlyStoppingReason.STOPPING_THRESHOLD, f"{key}={value:g} is better than {self.stopping_threshold:g}"
        if self.divergence_threshold is not None and self._is_better(self.divergence_threshold, value):
            return EarlyStoppingReason.DIVERGENCE_THRESHOLD, f"{key}={value:g} is worse than {self.divergence_threshold:g}"
        # Whatever check_finite says, a best that is not a number could never be improved on.
        if math.isfinite(value) and self._is_better(value, best, self.min_delta):
            if self.verbose:
                self._say(trainer, f"{key} improved from {best:g} to {value:g}" if math.isfinite(best) else f"{key} is {value:g}")
            self.best_score = torch.tensor(value)
            self.wait_count = 0
            return EarlyStoppingReason.NOT_STOPPED, ""
        self.wait_count += 1
        if self.wait_count < self.patience:
            return EarlyStoppingReason.NOT_STOPPED, ""
        return EarlyStoppingReason.PATIENCE_EXHAUSTED, f"{key} did not improve on {best:g} at {self.wait_count} checks in a row"

    def _is_better(self, value: float, other: float, delta: float = 0.0) -> bool:
        return value < other - delta if self.mode == "min" else value > other + delta


def _is_training(trainer: Trainer) -> bool:
    return trainer.stage == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run
