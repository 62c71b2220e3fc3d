"""One training batch: forward, backward and, when enough batches have accumulated, one optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from leyden.data.batch_size import samples_of
from leyden.loops.signature import bind_step
from leyden.messages import shown
from leyden.module import Module, is_overridden
from leyden.precision import Precision
from leyden.returned import returned, returned_callable

if TYPE_CHECKING:
    from leyden.trainer import Trainer


UNSEEN: dict[str, Any] = {}
"""What a training batch leaves for hooks where there is none that would see it."""


class TrainStep:
    """Straight-line forward, backward and step, with one optimizer or none.

    What may be overridden (backward, zero_grad, clipping, stepping) is resolved when this is built, once a run.
    """

    def __init__(self, trainer: Trainer, module: Module, optimizer_idx: int | None = None) -> None:
        """Binds what a batch needs.

        Args:
            trainer: the run.
            module: the module of the run.
            optimizer_idx: which of several optimizers this steps, passed to ``training_step``; None where there is one.
        """
        self.trainer = trainer
        self.module = module
        self.calls = trainer.bus.calls
        self.progress = trainer.progress
        self.precision = trainer.precision
        self.index = optimizer_idx or 0
        self.optimizers: list[Optimizer] = trainer.optimizers[self.index : self.index + 1]
        """The optimizers whose gradients this clears and which it steps: one, or none."""
        self.optimizer: Optimizer | None = self.optimizers[0] if self.optimizers else None
        self.training_step = bind_step(trainer, module, "training_step", optimizer_idx=optimizer_idx)
        self.accumulated = trainer.accumulate_grad_batches
        """Batches in a full accumulation window."""
        self.window = 0
        """Batches in the running window so far."""
        self.samples: float = 0
        """Samples in the running window so far, where batches are accumulated."""
        self.first: float = 1
        """Samples in the first batch of the running window."""
        self.due = True
        """Whether the running batch completes its window."""
        self.skipped = False
        """Whether the precision skipped the step of the running batch."""
        self.stepped_optimizers = [self.index]
        """The indices of the optimizers that took the last step."""
        self.counts = True
        """Whether a step is a training step; with several optimizers that take turns, the whole batch is one."""
        self.needs_loss = False
        """Whether a subclass reads the loss in what :meth:`forward_backward` returns."""

        backward = (
            module.backward
            if is_overridden("backward", module, Module)
            else returned_callable(trainer.strategy.bind_backward(trainer.precision), trainer.strategy, "bind_backward")
        )
        wrap = trainer.profiler.wrap
        self.backward: Callable[[Tensor], None] = trainer.finite_watch.wrap_backward(wrap(backward, "[Step]backward"))
        self.clip = wrap(module.configure_gradient_clipping, "[Step]clip")
        self.step_optimizer: Callable[..., bool] = trainer.finite_watch.wrap_step(
            wrap(trainer.precision.step, "[Step]optimizer_step")
        )
        self.steps_plainly = getattr(self.step_optimizer, "__func__", None) is Precision.step
        """Whether ``optimizer.step()`` is all there is to a step."""
        trainer.profiler.wrap_method(self, "zero_grad", "[Step]zero_grad")
        self.overrides_zero_grad = is_overridden("optimizer_zero_grad", module, Module)
        self.clears_plainly = not self.overrides_zero_grad and "zero_grad" not in vars(self)
        """Whether ``optimizer.zero_grad()`` and hooks are all there is to clearing gradients."""
        self.unscales = is_overridden("unscale", trainer.precision, Precision)
        self.clips = trainer.gradient_clip_val is not None or is_overridden("configure_gradient_clipping", module, Module)
        self.prepares = self.unscales or self.clips or self.accumulated > 1
        """Whether :meth:`before_step` has anything to do but call hooks."""
        self.steps_each_batch = self.optimizer is not None and self.accumulated == 1 and self.backward is Tensor.backward
        """Whether a batch is ``loss.backward()`` of the loss as it is and a step."""
        self.is_usual = self.steps_each_batch and not self.prepares and self.steps_plainly and self.clears_plainly
        """Whether forward, ``loss.backward()`` and ``optimizer.step()`` are all there is to a batch, but for hooks."""

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
        if self.accumulated > 1:
            self.begin(is_last)
        return self.backward_from(self.training_step(batch, batch_idx), batch, batch_idx)

    def accumulate(self, batches: int) -> None:
        """Has so many batches make a step from here on; called before the first batch of an epoch, or of training."""
        self.accumulated, self.due, self.is_usual, self.steps_each_batch = batches, True, False, False
        self.prepares = self.unscales or self.clips or batches > 1

    def begin(self, is_last: bool) -> None:
        """Notes whether the batch that is about to be trained on completes its window, where batches are accumulated."""
        self.due = is_last or self.window + 1 >= self.accumulated
        self.trainer.strategy.synchronize_gradients(self.module, self.due)

    def backward_from(self, output: Any, batch: Any, batch_idx: int) -> dict[str, Any] | None:
        """Adds the gradients of what ``training_step`` returned; see :meth:`forward_backward`."""
        trainer, module, calls = self.trainer, self.module, self.calls
        loss = output if output.__class__ is Tensor else loss_of(output, module)
        if loss is None:
            return None

        if not self.window:
            if self.clears_plainly and not calls.on_before_zero_grad:
                for optimizer in self.optimizers:
                    optimizer.zero_grad()
            else:
                self.zero_grad(batch_idx)
        self.window += 1
        divided = loss if self.accumulated == 1 else loss * self._share(output, batch)
        for hook in calls.on_before_backward:
            hook(trainer, module, divided)
        try:
            self.backward(divided)
        except RuntimeError:
            refuse_loss(loss, module)
            raise
        for hook in calls.on_after_backward:
            hook(trainer, module)

        if not calls.on_train_batch_end and not self.needs_loss:
            return UNSEEN  # nobody asks, and detaching costs a microsecond
        loss = loss.detach()
        return {"loss": loss} if output.__class__ is Tensor else {**output, "loss": loss}

    def zero_grad(self, batch_idx: int) -> None:
        """Clears the gradients of the last step, at the first batch of a window."""
        for optimizer in self.optimizers:
            for hook in self.calls.on_before_zero_grad:
                hook(self.trainer, self.module, optimizer)
            if self.overrides_zero_grad:
                self.module.optimizer_zero_grad(self.progress.epoch, batch_idx, optimizer)
            else:
                optimizer.zero_grad()

    def update(self) -> bool:
        """Steps the optimizer if the window is complete; called after every batch.

        Returns:
            Whether parameters were updated.
        """
        if not self.due or not self.window:
            return False
        updated = True
        optimizer = self.optimizer
        if optimizer is not None:
            if self.prepares or self.calls.on_before_optimizer_step:
                self.before_step(optimizer)
                if self.trainer.strategy.withholds_step:
                    return self.stepped(False)
            if self.steps_plainly:
                optimizer.step()  # Precision.step in place, which this saves for each step
            else:
                updated = self.step_optimizer(optimizer)
        if not updated or not self.counts or optimizer is None:
            return self.stepped(updated)
        self.window = 0
        self.progress.optimizer_steps[self.index] += 1
        self.progress.global_step += 1
        return True

    def flush(self) -> bool:
        """Steps an incomplete window, when an epoch ended without its last batch having been known as such."""
        self.due = True
        return self.update()

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer has stepped in the running batch before the loop knows of it."""
        return False

    @property
    def keeps_gradients(self) -> bool:
        """Whether gradients of an unfinished window are under way."""
        return self.window > 0

    def state_dict(self) -> dict[str, Any]:
        """The running window, without its gradients."""
        return {"window": self.window, "samples": self.samples, "first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that back."""
        self.window, self.samples, self.first = state["window"], state["samples"], state["first"]

    def before_step(self, optimizer: Optimizer) -> None:
        """Makes the gradients of a window those of its mean loss, unscaled, shown to hooks and clipped, in this order."""
        trainer, module = self.trainer, self.module
        self.complete_gradients(optimizer)
        for hook in self.calls.on_before_optimizer_step:
            hook(trainer, module, optimizer)
        if self.clips:
            self.clip(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    def complete_gradients(self, optimizer: Optimizer) -> None:
        """Makes the gradients of a window those of its mean loss, unscaled."""
        if self.unscales:
            self.trainer.strategy.average_gradients(optimizer)  # so that an overflow on one process is one on all of them
            self.precision.unscale(optimizer)
        uneven = self.samples not in (0, self.first * self.accumulated)
        if self.accumulated > 1 and uneven and not self.trainer.strategy.weighs_batches:
            scale_gradients(optimizer, self.first * self.accumulated / self.samples)

    def _share(self, output: Any, batch: Any) -> float:
        """What the loss of a batch counts for in its window, as if all batches of the window were as large as the first.

        A mean over the samples of a window weights each batch's mean by its size. Sizes to come are not known, so
        :meth:`before_step` corrects the gradients where a window turns out to be another size.
        """
        weight = output.get("loss_weight") if isinstance(output, Mapping) else None
        if weight is None:
            metrics = self.trainer.metrics
            weight = samples_of(batch) if metrics.batch_size is None else metrics.batch_size
        if self.window == 1:
            self.first, self.samples = float(weight) or 1.0, 0  # a first batch without samples is no measure of the others
        self.samples += float(weight)
        return float(weight) / (self.first * self.accumulated)

    def stepped(self, updated: bool) -> bool:
        """Counts a step that was taken or that the precision skipped."""
        returned(updated, self.precision, "step", bool, "whether it updated the parameters")
        self.window = 0
        self.skipped = not updated
        if updated and self.optimizer is not None:
            self.progress.optimizer_steps[self.index] += 1
        if self.counts:
            self.progress.global_step += updated
            self.progress.skipped_steps += not updated
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


def refuse_loss(loss: Tensor, module: Module) -> None:
    """Explains why backward cannot work on a loss, if it is for one of the usual reasons.

    Raises:
        ValueError: the loss has several elements, or no gradient.
    """
    where = f"{type(module).__name__}.training_step"
    if loss.numel() != 1:
        raise ValueError(
            f"{where} returned a loss of shape {tuple(loss.shape)}; expected one element: reduce it, for instance with .mean()"
        ) from None
    if not loss.requires_grad:
        raise ValueError(
            f"{where} returned a loss that depends on no parameter with a gradient; is it made from .item(), .detach() or under "
            f"torch.no_grad(), or is every parameter frozen?"
        ) from None


def scale_gradients(optimizer: Optimizer, factor: float) -> None:
    """Multiplies the gradients of an optimizer's parameters in place."""
    # Each loss was divided as for a window that is full and of batches as large as its first.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
