"""The training batch of most runs as one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from leyden.loops.step import UNSEEN, TrainStep, loss_of, refuse_loss

_ZERO_GRAD = Optimizer.zero_grad

Train = Callable[[Any, int, bool], tuple[Any, bool]]


def bind_training(step: Any) -> Train:
    """The function of ``(batch, batch_idx, is_last)`` that trains on a batch.

    It returns what hooks are to see of it, and whether parameters were updated.
    """
    is_plain = type(step) is TrainStep
    step.trainer.strategy.steps_each_batch = is_plain and step.steps_each_batch
    if is_plain and step.is_usual:
        return _usual(step)
    forward_backward, update = step.forward_backward, step.update

    def train(batch: Any, batch_idx: int, is_last: bool) -> tuple[Any, bool]:
        return forward_backward(batch, batch_idx, is_last), update()

    return train


def _usual(step: TrainStep) -> Train:
    """Forward, backward and step where nothing is accumulated, clipped, scaled or overridden; hooks may come and go.

    The same as :class:`TrainStep`, in one frame and with local names: between two real steps the processor's caches have lost
    the library's code and data, so that each call and each attribute costs several times what a loop of its own would show.
    """
    trainer, module, calls, progress, index = step.trainer, step.module, step.calls, step.progress, step.index
    strategy = trainer.strategy
    training_step, optimizer = step.training_step, step.optimizers[0]
    # torch's own, which opens a range for profilers around the same two loops, takes as long as one more operation.
    clears_here = type(optimizer).zero_grad is _ZERO_GRAD and "zero_grad" not in vars(optimizer)

    def train(batch: Any, batch_idx: int, is_last: bool) -> tuple[Any, bool]:
        output = training_step(batch, batch_idx)
        loss = output if output.__class__ is Tensor else loss_of(output, module)
        if loss is None:
            return None, False
        hooked = calls.inside_step
        if hooked:
            for hook in calls.on_before_zero_grad:
                hook(trainer, module, optimizer)
        if clears_here:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        else:
            optimizer.zero_grad()
        if hooked:
            for hook in calls.on_before_backward:
                hook(trainer, module, loss)
        try:
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        except RuntimeError:
            refuse_loss(loss, module)
            raise
        if hooked:
            for hook in calls.on_after_backward:
                hook(trainer, module)
            for hook in calls.on_before_optimizer_step:
                hook(trainer, module, optimizer)
        updated = not (hooked and strategy.withholds_step) or step.stepped(False)
        if updated:
            optimizer.step()
            progress.optimizer_steps[index] += 1
            progress.global_step += 1
        if not calls.on_train_batch_end:
            return UNSEEN, updated
        loss = loss.detach()
        return {"loss": loss} if output.__class__ is Tensor else {**output, "loss": loss}, updated

    return train
