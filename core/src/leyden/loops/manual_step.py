"""A training batch whose module runs backward and its optimizers itself."""

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


class ManualOptimizer:
    """An optimizer of manual optimization: steps with the hooks and the precision of the run, otherwise the one it wraps."""

    def __init__(self, optimizer: Optimizer, step: ManualStep) -> None:
        self.optimizer = optimizer
        self._step = step

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Updates the parameters; ``closure`` evaluates the loss again, for optimizers that need it."""
        self._step.step_optimizer(self.optimizer, closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


class ManualStep:
    """Runs ``training_step``, which does the rest by ``manual_backward`` and ``optimizers()``."""

    def __init__(self, trainer: Trainer, module: Module) -> None:
        if trainer.accumulate_grad_batches > 1:
            raise ValueError(
                f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches}) works in automatic optimization only; "
                f"{type(module).__name__} sets automatic_optimization = False: call optimizer.step() every "
                f"{trainer.accumulate_grad_batches} batches"
            )
        self.trainer = trainer
        self.module = module
        self.calls = trainer.bus.calls
        self.progress = trainer.progress
        self.training_step = bind_step(trainer, module, "training_step")
        self.run_backward = (
            module.backward if is_overridden("backward", module, Module) else trainer.strategy.bind_backward(trainer.precision)
        )
        self.optimizers = [ManualOptimizer(optimizer, self) for optimizer in trainer.optimizers]
        self.window = 0
        self._updated: bool | None = None

    def forward_backward(self, batch: Any, batch_idx: int, is_last: bool) -> dict[str, Any] | None:
        """Runs ``training_step`` on one batch; returns what it returned as a mapping, a loss detached."""
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

    def update(self) -> bool:
        """Counts the step, if any optimizer took one."""
        updated, self._updated = self._updated, None
        if updated:
            self.progress.global_step += 1
        elif updated is False:
            self.progress.skipped_steps += 1
        return bool(updated)

    def flush(self) -> bool:
        """Nothing is ever pending."""
        return False

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """``manual_backward``: hooks, the precision's scaling and backward."""
        trainer, module = self.trainer, self.module
        for hook in self.calls.on_before_backward:
            hook(trainer, module, loss)
        self.run_backward(loss, *args, **kwargs)
        for hook in self.calls.on_after_backward:
            hook(trainer, module)

    def step_optimizer(self, optimizer: Optimizer, closure: Callable[[], Any] | None) -> None:
        """Steps one optimizer: gradients unscaled, shown to hooks, clipped if the Trainer says so."""
        trainer, module = self.trainer, self.module
        if closure is None:
            trainer.precision.unscale(optimizer)
            for hook in self.calls.on_before_optimizer_step:
                hook(trainer, module, optimizer)
            if trainer.gradient_clip_val is not None:
                module.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            updated = trainer.precision.step(optimizer)
        else:
            updated = trainer.precision.step(optimizer, closure)
        self._updated = bool(self._updated) or updated
