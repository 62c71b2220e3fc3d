"""Gives loggers the learning rates."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback, hookimpl
from leyden.messages import shown
from torch import Tensor

from leyden_callbacks.arguments import check_bool, check_choice

if TYPE_CHECKING:
    from leyden import Module, Trainer


class LearningRateMonitor(Callback):
    """Records the learning rate of every parameter group, as it is in the coming step.

    The keys are ``lr-SGD`` for the only group of an optimizer, ``lr-SGD/pg1`` and so on for several, or ``lr-SGD/<name>`` for
    a group that has a ``"name"``; a second group of the name is ``lr-SGD/<name>-1``. A second optimizer of the class is
    ``lr-SGD-1``. The name of a scheduler (``{"scheduler": ..., "name": "warm-up"}``) takes the place of ``lr-SGD``. Momentum and
    weight decay have the same keys with ``-momentum`` and ``-weight_decay`` after them.

    Args:
        logging_interval: ``"step"`` records at each log point, ``"epoch"`` at the start of each epoch, None whenever the
            optimizer's schedulers step; an optimizer without is recorded each epoch.
        log_momentum: whether to record momentum too; the first of ``betas`` where an optimizer has those.
        log_weight_decay: whether to record weight decay too.
        log_key_prefix: comes before every key, such as ``"optim/"``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: there is no such interval.
    """

    name = "learning_rate_monitor"

    def __init__(
        self,
        logging_interval: str | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
        log_key_prefix: str = "",
    ) -> None:
        owner = type(self).__name__
        check_choice(owner, "logging_interval", logging_interval, (None, "step", "epoch"))
        check_bool(owner, "log_momentum", log_momentum)
        check_bool(owner, "log_weight_decay", log_weight_decay)
        if not isinstance(log_key_prefix, str):
            raise TypeError(f"{owner}(log_key_prefix={log_key_prefix!r}): expected a str, got {shown(log_key_prefix)}")
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.log_key_prefix = log_key_prefix
        self.lrs: dict[str, list[float]] = {}
        """The learning rates recorded in this run, by key."""
        self._names: list[str] = []
        self._intervals: list[set[str]] = []
        self._last_step = -1

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Refuses a run that has nowhere to record to."""
        if stage == "fit" and not trainer.loggers and not trainer.fast_dev_run:
            raise ValueError(
                f"{type(self).__name__} has no logger to give learning rates to; pass Trainer(logger='csv') or another one, "
                f"or leave out the callback"
            )

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Names the optimizers."""
        self.lrs = {}
        self._last_step = -1
        self._names, self._intervals = [], []
        taken: Counter[str] = Counter()
        for index, optimizer in enumerate(trainer.optimizers):
            configs = [config for config in trainer.lr_scheduler_configs if config.optimizer_idx == index]
            name = next((config.name for config in configs if config.name), None) or f"lr-{type(optimizer).__name__}"
            count = taken[name]
            taken[name] += 1
            self._names.append(self.log_key_prefix + (f"{name}-{count}" if count else name))
            self._intervals.append({config.interval for config in configs} or {"epoch"})

    @hookimpl(trylast=True)  # others set learning rates here
    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """Records those due each epoch."""
        if self.logging_interval != "step":
            self._record(trainer, "epoch")

    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> None:
        """Records those due at log points."""
        if self.logging_interval == "epoch":
            return
        step, every = trainer.progress.global_step, trainer.log_every_n_steps
        if every and (step + 1) % every == 0 and step != self._last_step:
            self._last_step = step
            self._record(trainer, "step")

    def _record(self, trainer: Trainer, interval: str) -> None:
        values: dict[str, float] = {}
        for name, intervals, optimizer in zip(self._names, self._intervals, trainer.optimizers, strict=True):
            # A scheduler that steps after validations changes nothing in between, like one of each epoch.
            due = self.logging_interval is not None or (interval == "step") is ("step" in intervals)
            if due:
                values.update(self._values(name, optimizer.param_groups))
        if not values:
            return
        for key, value in values.items():
            trainer.callback_metrics[key] = torch.tensor(value)
        trainer.log_record({**values, "step": trainer.global_step})

    def _values(self, name: str, groups: list[dict[str, Any]]) -> dict[str, float]:
        values: dict[str, float] = {}
        taken: Counter[str] = Counter()
        for index, group in enumerate(groups, start=1):
            key = name
            if "name" in group:
                count = taken[group["name"]]
                taken[group["name"]] += 1
                key = f"{name}/{group['name']}-{count}" if count else f"{name}/{group['name']}"
            elif len(groups) > 1:
                key = f"{name}/pg{index}"
            values[key] = _number(group["lr"])
            self.lrs.setdefault(key, []).append(values[key])
            if self.log_momentum:
                values[f"{key}-momentum"] = _number(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))
            if self.log_weight_decay:
                values[f"{key}-weight_decay"] = _number(group.get("weight_decay", 0.0))
        return values


def _number(value: Any) -> float:
    # Capturable optimizers keep their learning rate on the device; reading any other touches none.
    return float(value.item()) if isinstance(value, Tensor) else float(value)
