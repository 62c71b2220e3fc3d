"""Backpropagation through time in parts of a batch: ``truncated_bptt_steps`` and ``hiddens`` of 1.x."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import leyden
from torch import Tensor

from leyden_lightning.api.tools import recursive_detach
from leyden_lightning.legacy.binding import canonical, positional


def tbptt_split_batch(module: leyden.Module, batch: Any, split_size: int) -> list[Any]:
    """A batch in parts of ``split_size`` time steps, which are the second dimension of its tensors.

    Args:
        module: whose batch; an override of its own may split otherwise.
        batch: a tensor, or a list, tuple or dict of tensors and of sequences of sequences.
        split_size: time steps in each part.

    Raises:
        ValueError: nothing in the batch has a second dimension.
    """
    length = next((found for found in map(_time, _items(batch)) if found is not None), None)
    if length is None:
        raise ValueError("truncated_bptt_steps: nothing in the batch has a second dimension, which would be time")
    return [_part(batch, start, start + split_size) for start in range(0, length, split_size)]


def _items(batch: Any) -> list[Any]:
    if isinstance(batch, Tensor):
        return [batch]
    return list(batch.values()) if isinstance(batch, Mapping) else list(batch)


def _time(value: Any) -> int | None:
    if isinstance(value, Tensor):
        return value.shape[1] if value.ndim > 1 else None
    if isinstance(value, Sequence) and value and isinstance(value[0], Sequence | Tensor) and not isinstance(value[0], str):
        return len(value[0])
    return None


def _part(batch: Any, start: int, stop: int) -> Any:
    if isinstance(batch, Mapping):
        return {key: _slice(value, start, stop) for key, value in batch.items()}
    if isinstance(batch, Tensor):
        return batch[:, start:stop]
    parts = [_slice(value, start, stop) for value in batch]
    return tuple(parts) if type(batch) is tuple else parts


def _slice(value: Any, start: int, stop: int) -> Any:
    if isinstance(value, Tensor):
        return value[:, start:stop] if value.ndim > 1 else value
    if _time(value) is None:
        return value
    return [row[start:stop] for row in value]


class TimeSteps:
    """A ``training_step`` that trains on each part of a batch in turn, with the hidden state of the part before.

    Args:
        trainer: the run.
        module: the module of the run.
        step: its ``training_step``, with whatever older generations did around it.
        size: time steps in each part.
    """

    def __init__(self, trainer: leyden.Trainer, module: leyden.Module, step: Callable[..., Any], size: int) -> None:
        self.trainer = trainer
        self.module = module
        self.step = step
        self.size = size
        names = [canonical(p.name) for p in positional(step)]
        self.takes_hiddens = "hiddens" in names
        self.takes_index = "optimizer_idx" in names
        self.outputs: list[Any] = []
        """What each part of the last batch returned."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Splits, and for each part runs forward, backward and step; returns what the last part returned."""
        split: Any = self.module.tbptt_split_batch
        self.outputs = []
        hiddens: Any = None
        for part in split(batch, self.size):
            output = self._train(part, batch_idx, hiddens)
            self.outputs.append(output)
            hiddens = recursive_detach(output["hiddens"]) if isinstance(output, Mapping) and "hiddens" in output else None
        last = self.outputs[-1] if self.outputs else None
        return {key: value for key, value in last.items() if key != "hiddens"} if isinstance(last, Mapping) else last

    def _train(self, part: Any, batch_idx: int, hiddens: Any) -> Any:
        optimizers: Any = self.module.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        output: Any = None
        for index, optimizer in enumerate(optimizers):
            named = {"hiddens": hiddens} if self.takes_hiddens else {}
            if self.takes_index:
                named["optimizer_idx"] = index
                self.module.toggle_optimizer(optimizer)
            output = self.step(part, batch_idx, **named)
            loss = output["loss"] if isinstance(output, Mapping) else output
            if loss is not None:
                for hook in self.trainer.bus.calls.on_before_zero_grad:
                    hook(self.trainer, self.module, optimizer.optimizer)
                optimizer.zero_grad()
                self.module.manual_backward(loss)
                optimizer.step()
                for config in self.trainer.lr_scheduler_configs:
                    if config.interval == "step" and config.optimizer_idx == index and not config.reduce_on_plateau:
                        steps = self.trainer.progress.optimizer_steps[index]
                        if steps % config.frequency == 0:
                            self.module.lr_scheduler_step(config.scheduler, None)
            if self.takes_index:
                self.module.untoggle_optimizer(optimizer)
        return output

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Steps the schedulers of epochs, as automatic optimization does."""
        for config in trainer.lr_scheduler_configs:
            if config.interval != "epoch" or (trainer.progress.epoch + 1) % config.frequency:
                continue
            value = trainer.callback_metrics.get(config.monitor) if config.monitor else None
            if not config.reduce_on_plateau or value is not None:
                module.lr_scheduler_step(config.scheduler, value if config.reduce_on_plateau else None)

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Leaves the bus with the run."""
        trainer.bus.unregister(self)
