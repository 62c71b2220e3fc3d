"""A training batch whose module runs backward and its optimizers itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from leyden.compile import leave_out
from leyden.data.batch_size import samples_of
from leyden.loops.signature import bind_step
from leyden.loops.step import scale_gradients
from leyden.messages import shown
from leyden.module import Module, is_overridden
from leyden.returned import returned_callable

if TYPE_CHECKING:
    from leyden.trainer import Trainer


class ManualOptimizer:
    """An optimizer of manual optimization: steps with the hooks and the precision of the run, otherwise the one it wraps.

    Under ``accumulate_grad_batches`` only the last batch of a window steps, and only the first clears gradients.
    """

    def __init__(self, optimizer: Optimizer, step: ManualStep, index: int) -> None:
        self.optimizer = optimizer
        self.index = index
        self._step = step
        self._stepped_in = -1
        leave_out(step.trainer, self, "step", "zero_grad")

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Updates the parameters; ``closure`` evaluates the loss again, for optimizers that need it."""
        if self._step.due:
            self._stepped_in = self._step.progress.total_batches
            self._step.step_optimizer(self, closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients."""
        if self._step.window == 0 or self._stepped_in == self._step.progress.total_batches:
            self.optimizer.zero_grad(set_to_none=set_to_none)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


class ManualStep:
    """Runs ``training_step``, which does the rest by ``manual_backward`` and ``optimizers()``."""

    def __init__(self, trainer: Trainer, module: Module) -> None:
        self.trainer = trainer
        self.module = module
        self.calls = trainer.bus.calls
        self.progress = trainer.progress
        self.training_step = bind_step(trainer, module, "training_step")
        self.run_backward = (
            module.backward
            if is_overridden("backward", module, Module)
            else returned_callable(trainer.strategy.bind_backward(trainer.precision), trainer.strategy, "bind_backward")
        )
        watch, wrap = trainer.finite_watch, trainer.profiler.wrap
        self.run_backward = watch.wrap_backward(wrap(self.run_backward, "[Step]backward"))
        self.run_step: Callable[..., bool] = watch.wrap_step(wrap(trainer.precision.step, "[Step]optimizer_step"))
        leave_out(trainer, self, "backward")
        self.optimizers = [ManualOptimizer(optimizer, self, index) for index, optimizer in enumerate(trainer.optimizers)]
        self.accumulated = trainer.accumulate_grad_batches
        self.window = 0
        """Batches of the running accumulation window that are done."""
        self.samples = 0
        """Samples in the running window so far, where batches are accumulated."""
        self.first = 1
        """Samples in the first batch of the running window."""
        self.share = 1.0
        """What a loss of the running batch counts for in its window, as if all its batches were as large as the first."""
        self.due = True
        """Whether the running batch completes its window."""
        self.stepped_optimizers: list[int] = []
        """No scheduler is stepped by the loop."""
        self._updated: bool | None = None

    def forward_backward(self, batch: Any, batch_idx: int, is_last: bool) -> dict[str, Any] | None:
        """Runs ``training_step`` on one batch; returns what it returned as a mapping, a loss detached."""
        if self.accumulated > 1:
            self.begin(is_last)
        output = self.training_step(batch, batch_idx)
        if output is None:
            return None
        if isinstance(output, Tensor):
            return {"loss": output.detach()}
        if isinstance(output, Mapping):
            loss = output.get("loss")
            return {**output, "loss": loss.detach()} if isinstance(loss, Tensor) else dict(output)
        raise TypeError(
            f"{type(self.module).__name__}.training_step returned {shown(output)}; "
            f"in manual optimization expected a tensor, a dict or None"
        )

    def accumulate(self, batches: int) -> None:
        """Has so many batches make a step from the next window on; called between two windows."""
        self.accumulated, self.due, self.window = batches, True, 0

    def begin(self, is_last: bool) -> None:
        """Notes whether the batch that is about to be trained on completes its window."""
        self.due = is_last or self.window + 1 >= self.accumulated
        metrics = self.trainer.metrics
        weight = samples_of(metrics.batch) if metrics.batch_size is None else metrics.batch_size
        if not self.window:
            self.first, self.samples = weight or 1, 0  # a first batch without samples is no measure of the others
        self.samples += weight
        self.share = weight / (self.first * self.accumulated)
        self.trainer.strategy.synchronize_gradients(self.module, self.due)

    def update(self) -> bool:
        """Counts the step, if any optimizer took one."""
        updated, self._updated = self._updated, None
        self.window = 0 if self.due else self.window + 1
        if updated:
            self.progress.global_step += 1
        elif updated is False:
            self.progress.skipped_steps += 1
        return bool(updated)

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer has stepped in the running batch."""
        return bool(self._updated)

    @property
    def keeps_gradients(self) -> bool:
        """Gradients may be used by a later batch: only ``training_step`` knows."""
        return True

    def state_dict(self) -> dict[str, Any]:
        """The running window, without its gradients."""
        return {"window": self.window, "samples": self.samples, "first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that back."""
        self.window, self.samples, self.first = state["window"], state["samples"], state["first"]

    def flush(self) -> bool:
        """Gradients of a window that an epoch's end left incomplete stay: only ``training_step`` can step."""
        self.window = 0
        return False

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """``manual_backward``: hooks, the precision's scaling and backward."""
        trainer, module = self.trainer, self.module
        if self.accumulated > 1:
            loss = loss * self.share
        for hook in self.calls.on_before_backward:
            hook(trainer, module, loss)
        self.run_backward(loss, *args, **kwargs)
        for hook in self.calls.on_after_backward:
            hook(trainer, module)

    def step_optimizer(self, wrapped: ManualOptimizer, closure: Callable[[], Any] | None) -> None:
        """Steps one optimizer: gradients unscaled, shown to hooks, clipped if the Trainer says so."""
        trainer, module, optimizer = self.trainer, self.module, wrapped.optimizer
        if closure is None:
            trainer.precision.unscale(optimizer)
            if self.accumulated > 1 and self.samples not in (0, self.first * self.accumulated):
                scale_gradients(optimizer, self.first * self.accumulated / self.samples)
            for hook in self.calls.on_before_optimizer_step:
                hook(trainer, module, optimizer)
            if trainer.gradient_clip_val is not None:
                module.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            updated = self.run_step(optimizer)
        else:
            updated = self.run_step(optimizer, closure)
        self._updated = bool(self._updated) or updated
        self.progress.optimizer_steps[wrapped.index] += updated
