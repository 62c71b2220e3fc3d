"""Steps learning-rate schedulers when they are due."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from leyden.hookspecs import hookimpl
from leyden.messages import alternatives
from leyden.module import Module
from leyden.optim.configure import SchedulerConfig

if TYPE_CHECKING:
    from leyden.metrics.store import Metrics
    from leyden.trainer import Trainer


class Schedulers:
    """The schedulers of a run; each kind of moment has its own tuple, empty where there is none."""

    def __init__(self, configs: Iterable[SchedulerConfig], module: Module, metrics: Metrics, optimizer_steps: list[int]) -> None:
        """Sorts the schedulers of a run.

        Args:
            configs: what ``configure_optimizers`` returned.
            module: steps them, by its ``lr_scheduler_step``.
            metrics: has the latest values, for those that monitor one.
            optimizer_steps: the steps of each optimizer, as the run goes on.
        """
        # In manual optimization the user steps schedulers as well as optimizers.
        configs = list(configs) if module.automatic_optimization else []
        self._module = module
        self._metrics = metrics
        self._optimizer_steps = optimizer_steps
        self.step = self._chosen(configs, "step", plateau=False)
        self.step_plateau = self._chosen(configs, "step", plateau=True)
        self.epoch = self._chosen(configs, "epoch", plateau=False)
        self.epoch_plateau = self._chosen(configs, "epoch", plateau=True)
        self.validation = tuple(config for config in configs if config.interval == "validation")

    @staticmethod
    def _chosen(configs: list[SchedulerConfig], interval: str, *, plateau: bool) -> tuple[SchedulerConfig, ...]:
        return tuple(c for c in configs if c.interval == interval and c.reduce_on_plateau is plateau)

    def advance_steps(self, stepped: list[int]) -> None:
        """Steps the schedulers of interval ``"step"`` of the optimizers that just stepped, each by its own count of steps."""
        for config in self.step:
            if config.optimizer_idx in stepped:
                self.advance((config,), self._optimizer_steps[config.optimizer_idx])

    def advance(self, configs: tuple[SchedulerConfig, ...], count: int) -> None:
        """Steps those of ``configs`` that are due at the ``count``-th moment of their interval, from 1.

        Raises:
            ValueError: a strict scheduler's monitor was not logged.
        """
        for config in configs:
            if config.paused or count % config.frequency or not self._may_step(config):
                continue
            if not config.reduce_on_plateau:  # a monitor given all the same, as much code has it, is none of its business
                self._module.lr_scheduler_step(config.scheduler, None)
                continue
            latest = self._metrics.callback_metrics
            value = self._agreed(latest.get(config.monitor or ""))
            if value is not None:
                self._module.lr_scheduler_step(config.scheduler, value)
            elif config.strict:
                raise ValueError(
                    f"{type(config.scheduler).__name__} monitors {config.monitor!r}, which was not logged"
                    f"{alternatives(config.monitor or '', latest, 'logged')}"
                )

    def _agreed(self, value: Tensor | None) -> Tensor | None:
        """The mean over the processes that have the value: a step's is each one's own, and their learning rates must not be."""
        strategy = self._module.trainer.strategy
        if strategy.world_size == 1:
            return value
        own = torch.tensor([0.0, 0.0] if value is None else [1.0, float(value)], dtype=torch.float64)
        found = [number for has, number in strategy.all_gather(own).tolist() if has]
        return torch.tensor(sum(found) / len(found)) if found else None

    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer: Trainer) -> None:
        """Steps plateau schedulers when everybody has logged, before callbacks that come last save what is to be resumed."""
        self.advance(self.epoch_plateau, trainer.progress.epoch + 1)

    def _may_step(self, config: SchedulerConfig) -> bool:
        # torch warns of a scheduler that steps before its optimizer did; only those that go by a value may.
        steps = self._optimizer_steps
        return config.reduce_on_plateau or not steps or steps[config.optimizer_idx] > 0
