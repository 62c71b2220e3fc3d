"""Trains on a batch in parts when it does not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.data.batch_size import UnknownBatchSize, batch_size_of
from leyden.messages import announce
from leyden.metrics.store import REDUCTIONS
from leyden.seeding import random_state, set_random_state
from torch import Tensor

from leyden_callbacks.arguments import check_int
from leyden_callbacks.out_of_memory import free_memory, is_out_of_memory
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class OOMMicrobatch(Callback):
    """Halves the micro-batch when a training batch runs out of memory, and tries the same batch again.

    The gradients of the parts add up to those of the whole batch where its loss is a mean over samples, so only batch
    normalization and random numbers can tell the difference. Later batches are trained on in parts of that size too.
    ``on_before_backward`` and ``on_after_backward`` are called for each part, ``on_train_batch_end`` once; logged values
    count each sample once.

    With several processes each takes batches apart for itself, while the others wait for it at the step. For that no gradient is
    sent while backward runs: all are averaged at the step, in one reduction, where otherwise most of it overlaps with backward.
    At log points all take over the smallest size. A ``training_step``, or a hook that is called for each part, that
    communicates would find nobody to answer.

    It costs a copy of the gradients where batches are accumulated, and another one at the step of several processes. Automatic
    optimization with one optimizer that needs no closure only, under a strategy that can average gradients at the step (``ddp``).

    Args:
        microbatch_size: the size to start with; None is the whole batch.
        min_size: if a part of so many samples does not fit either, the error leaves ``fit``.

    Raises:
        TypeError: an argument is no int.
        ValueError: an argument is less than 1.
    """

    name = "oom_microbatch"

    def __init__(self, microbatch_size: int | None = None, min_size: int = 1) -> None:
        owner = type(self).__name__
        if microbatch_size is not None:
            check_int(owner, "microbatch_size", microbatch_size, 1)
        check_int(owner, "min_size", min_size, 1)
        self.given = microbatch_size
        self.min_size = min_size
        self.microbatch_size = microbatch_size
        """Samples that are trained on at once; None is the whole batch."""
        self._agreed_at = 0  # the step after which processes took over the smallest size last

    def state_dict(self) -> dict[str, Any]:
        """The size that fits."""
        return {"microbatch_size": self.microbatch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Starts with it."""
        self.microbatch_size = state_dict["microbatch_size"]

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """A fit starts anew; one that goes on from a checkpoint gets its state after this.

        Raises:
            ValueError: the run has manual optimization, or processes that communicate before the step.
        """
        if stage != "fit":
            return
        self.microbatch_size, self._agreed_at = self.given, 0
        if trainer.world_size > 1 and not trainer.strategy.averages_later:
            raise ValueError(
                f"{type(self).__name__}: strategy={trainer.strategy.name!r} cannot average gradients at the step, so that one "
                f"process out of memory would leave the others waiting; use strategy='ddp'"
            )
        if trainer.world_size > 1 and trainer.sync_batchnorm:
            raise ValueError(
                f"{type(self).__name__}: with sync_batchnorm=True processes communicate in each forward pass, so that one out "
                f"of memory would leave the others waiting; pass sync_batchnorm=False"
            )
        if not module.automatic_optimization:
            raise ValueError(f"{type(self).__name__} needs automatic optimization: it runs backward on parts of a batch itself")

    def validate_run(self, trainer: Trainer, module: Module) -> None:
        """Takes its place around the training of a batch.

        Raises:
            ValueError: there are several optimizers, or one that evaluates the loss itself.
        """
        step = trainer.train_step
        if len(trainer.optimizers) != 1 or getattr(step, "needs_loss", True):
            raise ValueError(
                f"{type(self).__name__} needs one optimizer that is stepped without a closure; {type(module).__name__} has "
                f"{', '.join(type(optimizer).__name__ for optimizer in trainer.optimizers) or 'none'}"
            )
        step.accumulate(step.accumulated)  # parts of a batch are one window, and the loop's usual way has no place for this
        step.forward_backward = self._around(trainer, module, step)

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Gradients are averaged while backward runs again."""
        if stage == "fit":
            trainer.strategy.synchronize_gradients(module, True)

    def on_before_backward(self, trainer: Trainer, module: Module, loss: Any) -> None:
        """Refuses a loop of the user's own.

        Raises:
            ValueError: the forward pass of the batch was not this callback's to take apart.
        """
        if trainer.running_batch is not None:
            raise ValueError(f"{type(self).__name__}: trainer.batches() leaves the forward pass to you; use fit()")

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """At log points, where processes meet anyway, each takes over the smallest size."""
        step, every = trainer.global_step, trainer.log_every_n_steps
        if trainer.world_size == 1 or not every or step == self._agreed_at or step % every:
            return
        self._agreed_at = step
        own = float("inf") if self.microbatch_size is None else float(self.microbatch_size)
        smallest = float(trainer.strategy.all_reduce(torch.tensor(own, device=trainer.strategy.device), "min"))
        if smallest < own:
            self.microbatch_size = int(smallest)
            say(trainer, f"another process was out of memory: now it is {self.microbatch_size} samples at once here, too")

    def _around(self, trainer: Trainer, module: Module, step: Any) -> Callable[..., Any]:
        strategy = trainer.strategy

        def forward_backward(batch: Any, batch_idx: int, is_last: bool) -> Any:
            while True:
                attempt = _Attempt(trainer, module, step)
                try:
                    with attempt:
                        if step.accumulated > 1:
                            step.begin(is_last)
                        if strategy.averages_later:
                            strategy.synchronize_gradients(module, False)
                        if self.microbatch_size is None or strategy.idle:
                            return step.backward_from(step.training_step(batch, batch_idx), batch, batch_idx)
                        return _in_parts(trainer, step, batch, batch_idx, self.microbatch_size)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    size = _size(trainer, batch)
                    now = size if self.microbatch_size is None else min(self.microbatch_size, size)
                    if now // 2 < self.min_size:
                        raise
                    self.microbatch_size = now // 2
                attempt.undo()  # outside of the handler, for its traceback holds the tensors of the failed attempt
                free_memory()
                text = f"out of memory with {now} samples at once in step {trainer.global_step}; now it is {now // 2}"
                if trainer.is_global_zero:
                    say(trainer, text)
                else:
                    announce(f"rank {trainer.global_rank} is {text}")

        return forward_backward


@dataclass
class _Logged:
    """What :meth:`Metrics.log` was called with while a part was trained on, and the samples of that part."""

    name: str
    value: Any
    options: tuple[Any, ...]
    batch_size: int | None
    samples: int | None


_REDUCTION = 4  # where the options of Metrics.log have it


def _reduced(values: Tensor, weights: list[Any], reduction: str) -> Tensor:
    if reduction in ("sum", "min", "max"):
        reduced: Tensor = getattr(values, f"a{reduction}" if reduction != "sum" else "sum")(0)
        return reduced
    shares = torch.tensor(weights, dtype=values.dtype, device=values.device)
    return (values * shares / shares.sum()).sum(0)


def _widest(value: Tensor) -> Tensor:
    return value.float() if value.device.type == "mps" else value.double()  # which Metal does not have


def _like(first: Any, value: Tensor) -> Any:
    if not isinstance(first, Tensor):
        return value.item()
    return value.to(first.dtype) if first.is_floating_point() else value


class _Attempt:
    """What training on a batch changes before it is through, so that it can be undone."""

    def __init__(self, trainer: Trainer, module: Module, step: Any) -> None:
        self.trainer = trainer
        self.step = step
        self.window = step.window, step.samples, step.first, trainer.metrics.batch_size
        self.counted = trainer.strategy.counted_so_far()
        self.random = random_state()
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        # The first batch of a window clears gradients anyway.
        self.gradients = [None if p.grad is None else p.grad.clone() for p in self.parameters] if step.window else None
        self.logged: list[_Logged] = []

    def __enter__(self) -> None:
        """Values that are logged wait until the batch is through: an attempt that fails must not count."""
        metrics = self.trainer.metrics

        def log(name: str, value: Any, options: tuple[Any, ...], batch_size: int | None) -> None:
            # A copy: the step may change a tensor in place.
            kept = value.detach().clone() if isinstance(value, Tensor) else value
            self.logged.append(_Logged(name, kept, options, batch_size, metrics.batch_size))

        self.usual = vars(metrics).get("log")
        metrics.log = log  # type: ignore[method-assign]  # while the attempt lasts

    def __exit__(self, kind: Any, *_: Any) -> None:
        metrics = self.trainer.metrics
        if self.usual is None:
            del metrics.log
        else:
            metrics.log = self.usual  # type: ignore[method-assign]  # a profiler's
        if kind is None:
            self._log()

    def _log(self) -> None:
        """Logs what the parts logged: once for each key, as the whole batch would have."""
        metrics = self.trainer.metrics
        size = metrics.batch_size
        merged: dict[str, list[_Logged]] = {}
        for entry in self.logged:
            merged.setdefault(entry.name, []).append(entry)
        for entries in merged.values():
            first = entries[0]
            if len(entries) == 1 or not all(isinstance(entry.value, Tensor | int | float) for entry in entries):
                for entry in entries:
                    metrics.batch_size = entry.samples
                    metrics.log(entry.name, entry.value, entry.options, entry.batch_size)
                continue
            weights: list[Any] = [entry.samples if entry.batch_size is None else entry.batch_size for entry in entries]
            values = torch.stack([_widest(torch.as_tensor(entry.value)) for entry in entries])
            # What is no reduction is refused by Metrics.log.
            value = _like(first.value, _reduced(values, weights, REDUCTIONS.get(first.options[_REDUCTION], "mean")))
            metrics.batch_size = sum(weights)
            metrics.log(first.name, value, first.options, None if first.batch_size is None else sum(weights))
        metrics.batch_size = size

    def undo(self) -> None:
        step = self.step
        step.window, step.samples, step.first, self.trainer.metrics.batch_size = self.window
        self.trainer.strategy.count_from(self.counted)
        set_random_state(self.random)
        for index, parameter in enumerate(self.parameters):
            parameter.grad = None if self.gradients is None else self.gradients[index]


def _in_parts(trainer: Trainer, step: Any, batch: Any, batch_idx: int, size: int) -> Any:
    metrics, window, samples = trainer.metrics, step.window, step.samples
    total, whole_size = _size(trainer, batch), metrics.batch_size
    outputs: list[Any] = []
    for start in range(0, total, size):
        count = min(size, total - start)
        part = _slice(batch, start, start + count, total)
        metrics.batch, metrics.batch_size = part, count
        output = step.training_step(part, batch_idx)
        if isinstance(output, Mapping) and output.get("loss_weight") is not None:
            raise ValueError("OOMMicrobatch cannot train on parts of a batch whose training_step returns a 'loss_weight'")
        metrics.batch_size = total  # what the batch counts for in its window, of which each part has its share
        result = step.backward_from(_scaled(output, count / total), part, batch_idx)
        if result is not None:
            outputs.append(result)
            step.window = window + 1  # the parts are one batch of the window
            step.samples = (samples if window else 0) + total
    metrics.batch, metrics.batch_size = batch, whole_size
    if not outputs:
        return None
    if "loss" not in outputs[0]:
        return outputs[0]  # nobody asks
    return {**outputs[-1], "loss": torch.stack([result["loss"] for result in outputs]).sum()}


def _scaled(output: Any, factor: float) -> Any:
    if isinstance(output, Tensor):
        return output * factor
    if isinstance(output, Mapping) and isinstance(output.get("loss"), Tensor):
        return {**output, "loss": output["loss"] * factor}
    return output


def _size(trainer: Trainer, batch: Any) -> int:
    try:
        return batch_size_of(batch)
    except UnknownBatchSize as error:
        raise ValueError(f"OOMMicrobatch cannot take a batch apart: {error}") from None


def _slice(data: Any, start: int, stop: int, total: int) -> Any:
    """Samples ``start`` to ``stop`` of a batch; what has no dimension of samples stays whole."""
    if isinstance(data, Tensor):
        return data[start:stop] if data.ndim and data.shape[0] == total else data
    if isinstance(data, Mapping):
        return type(data)({key: _slice(value, start, stop, total) for key, value in data.items()})  # type: ignore[call-arg]  # dicts take one
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(_slice(value, start, stop, total) for value in data))
    if isinstance(data, list | tuple):
        if len(data) == total and not any(isinstance(item, Tensor) and item.ndim and item.shape[0] == total for item in data):
            return data[start:stop]  # one item for each sample, such as file names
        return type(data)(_slice(value, start, stop, total) for value in data)
    return data
