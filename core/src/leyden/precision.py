"""In which number formats a run stores and computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from leyden.component import Component


class Precision(Component):
    """Full precision, 32 bits everywhere; subclasses override what differs."""

    group = "leyden.precisions"
    kind = "precision"
    name = "32-true"

    dtype: ClassVar[Any] = None  # a torch.dtype, narrowed by subclasses
    """What steps compute in; None is what the parameters are stored in."""

    storage_dtype: ClassVar[Any] = None
    """What new parameters are stored in; None is torch's default."""

    scaler: Any = None
    """What scales the loss, such as a ``torch.amp.GradScaler``; None if nothing does."""

    def check(self, optimizers: list[Optimizer], device_type: str) -> None:
        """Called before training.

        Raises:
            ValueError: this precision cannot work with these optimizers, or on such a device.
        """

    def convert_module(self, module: nn.Module) -> None:
        """Changes the dtype of the module's floating-point parameters and buffers, in place, before optimizers exist."""

    def wrap_step(self, step: Callable[..., Any], device_type: str) -> Callable[..., Any]:
        """Returns the callable that runs ``step`` in this precision; here ``step`` itself, so that it costs nothing.

        Called once a run for each of training_step, validation_step, test_step and predict_step.
        """
        return step

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Adds the gradients of ``loss`` (a scalar) to the parameters; extra arguments are ``Tensor.backward``'s."""
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch has no types here

    def unscale(self, optimizer: Optimizer) -> None:
        """Makes the gradients of ``optimizer`` the true ones; before anyone looks at them.

        Called at least once before each step; the second time it does nothing.
        """

    def step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> bool:
        """Updates the parameters; False if the step was skipped because the gradients overflowed.

        Args:
            optimizer: the optimizer to step.
            closure: evaluates the loss again and returns it, for optimizers that need it.
        """
        optimizer.step(closure)
        return True

    def state_dict(self) -> dict[str, Any]:
        """State to keep in checkpoints, such as a gradient scaler's; empty means none."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""
