"""A training batch whose optimizer, or whose module's ``optimizer_step``, evaluates the loss itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import LBFGS, Optimizer

from leyden.loops.step import TrainStep
from leyden.module import Module, is_overridden

if TYPE_CHECKING:
    from leyden.trainer import Trainer


class _SkipBatch(Exception):
    """``training_step`` returned None inside a closure: leaves ``optimizer.step`` before it changes anything."""


class ClosureStep(TrainStep):
    """Gives the optimizer a closure that runs forward, backward and clipping."""

    def __init__(self, trainer: Trainer, module: Module, optimizer_idx: int | None = None) -> None:
        super().__init__(trainer, module, optimizer_idx)
        self.overrides_step = is_overridden("optimizer_step", module, Module)
        self.updates: list[bool] = []
        self.needs_loss = True

    @staticmethod
    def is_needed(optimizer: Optimizer, module: Module) -> bool:
        """Whether a module with this optimizer needs a closure."""
        return takes_closure(optimizer) or is_overridden("optimizer_step", module, Module)

    def forward_backward(self, batch: Any, batch_idx: int, is_last: bool) -> dict[str, Any] | None:
        """As the base class's; on the batch that completes a window it also steps."""
        self.updates.clear()
        if not is_last and self.window + 1 < self.accumulated:
            return super().forward_backward(batch, batch_idx, is_last)
        optimizer = self.optimizer
        assert optimizer is not None
        window, samples = self.window, self.samples
        outputs: list[dict[str, Any] | None] = []

        def closure() -> Tensor:
            self.window, self.samples = window, samples  # an optimizer may evaluate the loss several times
            output = super(ClosureStep, self).forward_backward(batch, batch_idx, is_last)
            outputs.append(output)
            if output is None:
                raise _SkipBatch
            self.before_step(optimizer)
            loss: Tensor = output["loss"]
            return loss

        try:
            self._step(optimizer, batch_idx, closure)
        except _SkipBatch:
            return None
        if self.overrides_step and not outputs:
            raise RuntimeError(
                f"{type(self.module).__name__}.optimizer_step did not call its closure, so the batch was not trained on; "
                f"call optimizer.step(closure=optimizer_closure), or optimizer_closure()"
            )
        if not self.updates:
            self.window = 0  # the override chose not to step on this batch
        return outputs[0] if outputs else None

    def _step(self, optimizer: Optimizer, batch_idx: int, closure: Callable[[], Tensor]) -> None:
        if self.overrides_step:
            with self._through_precision(optimizer):
                self.module.optimizer_step(self.progress.epoch, batch_idx, optimizer, closure)
        else:
            self.updates.append(self.step_optimizer(optimizer, closure))

    def update(self) -> bool:
        """Counts the step that :meth:`forward_backward` took; steps a window that ended without its last batch."""
        if self.updates:
            updated = self.stepped(any(self.updates))
            self.updates.clear()
            return updated
        return super().update() if self.window and self.due else False

    @contextmanager
    def _through_precision(self, optimizer: Optimizer) -> Iterator[None]:
        """While the user's ``optimizer_step`` runs, ``optimizer.step`` goes through the precision.

        The user is handed the torch optimizer itself, so its ``step`` is replaced on the object and put back.
        """
        own = vars(optimizer).get("step")  # schedulers of torch put one there
        original = optimizer.step

        def step(closure: Callable[[], Any] | None = None) -> Any:
            optimizer.step = original  # type: ignore[method-assign]  # the precision calls the real one
            try:
                if takes_closure(optimizer):
                    self.updates.append(self.step_optimizer(optimizer, closure))
                    return None
                loss = closure() if closure is not None else None
                self.updates.append(self.step_optimizer(optimizer))
                return loss
            finally:
                optimizer.step = step  # type: ignore[method-assign]  # until the block ends

        optimizer.step = step  # type: ignore[method-assign]  # see above
        try:
            yield
        finally:
            if own is None:
                vars(optimizer).pop("step", None)
            else:
                optimizer.step = own  # type: ignore[method-assign]  # what stood there before


def takes_closure(optimizer: Optimizer) -> bool:
    """Whether an optimizer evaluates the loss itself: LBFGS, and every class that is not torch's, which may."""
    module = type(optimizer).__module__
    return isinstance(optimizer, LBFGS) or not (module == "torch.optim" or module.startswith("torch.optim."))
