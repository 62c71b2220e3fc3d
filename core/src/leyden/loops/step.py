"""One training batch: forward, backward and, when enough batches have accumulated, one optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from leyden.loops.signature import bind_step
from leyden.messages import shown
from leyden.module import Module, is_overridden

if TYPE_CHECKING:
    from leyden.trainer import Trainer


_UNSEEN: dict[str, Any] = {}


class TrainStep:
    """Straight-line forward, backward and step, with one optimizer or none.

    What may be overridden (backward, zero_grad, clipping, stepping) is resolved when this is built, once a run.
    """

    def __init__(self, trainer: Trainer, module: Module) -> None:
        self.trainer = trainer
        self.module = module
        self.calls = trainer.bus.calls
        self.progress = trainer.progress
        self.precision = trainer.precision
        self.optimizer: Optimizer | None = trainer.optimizers[0] if trainer.optimizers else None
        self.training_step = bind_step(trainer, module, "training_step")
        self.accumulated = trainer.accumulate_grad_batches
        """Batches in a full accumulation window."""
        self.window = 0
        """Batches in the running window so far."""
        self.due = False
        """Whether the running batch completes its window."""
        self.needs_loss = False
        """Whether a subclass reads the loss in what :meth:`forward_backward` returns."""

        backward = (
            module.backward if is_overridden("backward", module, Module) else trainer.strategy.bind_backward(trainer.precision)
        )
        self.backward: Callable[[Tensor], None] = backward
        self.overrides_zero_grad = is_overridden("optimizer_zero_grad", module, Module)
        self.clips = trainer.gradient_clip_val is not None or is_overridden("configure_gradient_clipping", module, Module)

    def forward_backward(self, batch: Any, batch_idx: int, is_last: bool) -> dict[str, Any] | None:
        """Adds the gradients of one batch.

        Args:
            batch: on its device.
            batch_idx: its index in the epoch.
            is_last: whether the epoch ends with it, and so the accumulation window.

        Returns:
            The mapping that ``training_step`` returned, its loss detached, or ``{"loss": loss}``; None if that was None. An empty
            mapping if no hook will see it.
        """
        trainer, module, calls = self.trainer, self.module, self.calls
        self.due = is_last or self.window + 1 >= self.accumulated
        if self.accumulated > 1:
            trainer.strategy.synchronize_gradients(module, self.due)

        output = self.training_step(batch, batch_idx)
        loss = output if output.__class__ is Tensor else loss_of(output, module)
        if loss is None:
            return None

        optimizer = self.optimizer
        if not self.window and optimizer is not None:
            for hook in calls.on_before_zero_grad:
                hook(trainer, module, optimizer)
            if self.overrides_zero_grad:
                module.optimizer_zero_grad(self.progress.epoch, batch_idx, optimizer)
            else:
                optimizer.zero_grad()
        self.window += 1
        divided = loss if self.accumulated == 1 else loss / self.accumulated
        for hook in calls.on_before_backward:
            hook(trainer, module, divided)
        self.backward(divided)
        for hook in calls.on_after_backward:
            hook(trainer, module)

        if not calls.on_train_batch_end and not self.needs_loss:
            return _UNSEEN  # nobody asks, and detaching costs a microsecond
        loss = loss.detach()
        return {"loss": loss} if output.__class__ is Tensor else {**output, "loss": loss}

    def update(self) -> bool:
        """Steps the optimizer if the window is complete; called after every batch.

        Returns:
            Whether parameters were updated.
        """
        if not self.due or not self.window:
            return False
        updated = True
        if self.optimizer is not None:
            self.before_step(self.optimizer)
            updated = self.precision.step(self.optimizer)
        return self.stepped(updated)

    def flush(self) -> bool:
        """Steps an incomplete window, when an epoch ended without its last batch having been known as such."""
        self.due = True
        return self.update()

    def before_step(self, optimizer: Optimizer) -> None:
        """Makes the gradients of a window those of its mean loss, unscaled, shown to hooks and clipped, in this order."""
        trainer, module = self.trainer, self.module
        self.precision.unscale(optimizer)
        if self.window < self.accumulated:
            _scale_gradients(optimizer, self.accumulated / self.window)
        for hook in self.calls.on_before_optimizer_step:
            hook(trainer, module, optimizer)
        if self.clips:
            module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    def stepped(self, updated: bool) -> bool:
        """Counts a step that was taken or that the precision skipped."""
        self.window = 0
        if updated:
            self.progress.global_step += 1
        else:
            self.progress.skipped_steps += 1
        return updated


def loss_of(output: Any, module: Module) -> Tensor | None:
    """The loss in what ``training_step`` returned; None to skip the batch.

    Raises:
        TypeError: there is none in it.
    """
    if output is None or isinstance(output, Tensor):
        return output
    where = f"{type(module).__name__}.training_step"
    if isinstance(output, Mapping):
        if "loss" not in output:
            raise TypeError(f"{where} returned a dict without 'loss'; its keys are {', '.join(map(repr, output)) or 'none'}")
        loss = output["loss"]
        if loss is None or isinstance(loss, Tensor):
            return loss
        raise TypeError(f"{where} returned {shown(loss)} as 'loss'; expected a tensor of one element")
    raise TypeError(
        f"{where} returned {shown(output)}; expected the loss as a tensor, a dict with 'loss', or None to skip the batch"
    )


def _scale_gradients(optimizer: Optimizer, factor: float) -> None:
    # The last window of an epoch can be short, but each loss was divided by the full window's size.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
