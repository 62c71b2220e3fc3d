"""Steps in 16 bits whose loss is scaled, so that small gradients do not vanish."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from leyden_precision.autocast import MixedPrecision


class FP16MixedPrecision(MixedPrecision):
    """``"16-mixed"``: steps in float16 under ``torch.autocast``, with a ``torch.amp.GradScaler``.

    The loss is multiplied by a scale before backward and the gradients divided by it afterwards. Gradients that overflow
    are dropped: that step is skipped, and the scale halved. The new scale takes effect at the next backward, so that
    several optimizers stepped after one backward divide by the scale that it was made with.

    Args:
        init_scale: the first scale.
        growth_factor: what the scale is multiplied by after ``growth_interval`` steps without overflow.
        backoff_factor: what the scale is multiplied by after an overflow.
        growth_interval: a number of steps.
    """

    name = "16-mixed"
    dtype = torch.float16

    def __init__(
        self,
        *,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        if init_scale <= 0 or growth_factor <= 1 or not 0 < backoff_factor < 1 or growth_interval < 1:
            raise ValueError(
                f"precision={self.name!r}: init_scale={init_scale}, growth_factor={growth_factor}, "
                f"backoff_factor={backoff_factor}, growth_interval={growth_interval}; expected a positive scale, a growth "
                f"factor above 1, a backoff factor between 0 and 1, and an interval of at least 1"
            )
        self._options: dict[str, Any] = {
            "init_scale": init_scale,
            "growth_factor": growth_factor,
            "backoff_factor": backoff_factor,
            "growth_interval": growth_interval,
        }
        self.scaler: GradScaler | None = None
        """Made where the device is known; it takes account of the last step at the next backward."""
        self._scaled_backward = False
        self._unscaled: set[Optimizer] = set()  # since the last backward
        self._stepped: set[Optimizer] = set()  # likewise; the scaler learns of their overflows at the next backward

    def check(self, optimizers: list[Optimizer], device_type: str) -> None:
        """Called before training.

        Raises:
            ValueError: ``torch.autocast`` cannot compute in float16 on such a device, or an optimizer evaluates the loss itself.
        """
        super().check(optimizers, device_type)
        for index, optimizer in enumerate(optimizers):
            if _needs_closure(optimizer):
                raise ValueError(f"{self._no_closure(optimizer)} (optimizer {index})")
        self._restart(device_type)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Adds the scaled gradients of ``loss`` (a scalar) to the parameters.

        Raises:
            RuntimeError: they were added to gradients that :meth:`unscale` has divided already.
        """
        self._update()
        self._scaled_backward = True
        waiting = [(optimizer, _Held(optimizer)) for optimizer in self._unscaled]  # unscaled but not stepped
        scaled: Tensor = self._scaler_for(loss.device.type).scale(loss)
        super().backward(scaled, *args, **kwargs)
        for optimizer, held in waiting:
            if held.has_changed():
                self._begin_anew(optimizer, held)

    def _begin_anew(self, optimizer: Optimizer, held: _Held) -> None:
        """Takes note that the gradients of an optimizer that was not stepped are scaled again, for they were cleared before."""
        if held.was_any():
            raise RuntimeError(
                f"precision={self.name!r}: the gradients of {type(optimizer).__name__} were unscaled, as by "
                f"self.clip_gradients(), and then a backward added scaled ones to them; clip right before the step, or clear "
                f"them with zero_grad() before the backward"
            )
        self._unscaled.discard(optimizer)
        assert self.scaler is not None
        self.scaler._per_optimizer_states.pop(id(optimizer), None)  # as update() does for all optimizers at once

    def unscale(self, optimizer: Optimizer) -> None:
        """Divides the gradients of ``optimizer`` by the scale; does nothing the second time before a step.

        Raises:
            RuntimeError: its gradients were not made by :meth:`backward`.
        """
        if optimizer in self._unscaled or not _has_gradients(optimizer):
            return
        if not self._scaled_backward or optimizer in self._stepped:
            raise RuntimeError(
                f"precision={self.name!r}: {type(optimizer).__name__} is to be stepped, but there was no scaled backward since "
                f"{'its last step' if self._scaled_backward else 'the start'}; call self.manual_backward(loss) in place of "
                f"loss.backward(), once for each step"
            )
        assert self.scaler is not None
        self.scaler.unscale_(optimizer)
        self._unscaled.add(optimizer)

    def step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> bool:
        """Updates the parameters unless the gradients overflowed.

        A fused optimizer finds overflows on the device and leaves the parameters as they are without telling: waiting for the
        device would undo what it was chosen for, so its steps all count as taken.

        Args:
            optimizer: the optimizer to step.
            closure: evaluates the loss and the gradients; called once, before the step.

        Returns:
            False if the optimizer was not called, because the gradients overflowed.

        Raises:
            RuntimeError: the optimizer evaluates the loss itself, or the gradients were not made by :meth:`backward`.
        """
        if closure is not None:
            if _needs_closure(optimizer):
                raise RuntimeError(self._no_closure(optimizer))
            if closure() is None:
                return False  # there was no loss, so there is no gradient to step with
        if not _has_gradients(optimizer):  # the scaler would refuse what is no work for the optimizer
            optimizer.step()
            return True
        self.unscale(optimizer)
        assert self.scaler is not None
        with _watched(optimizer) as calls:
            self.scaler.step(optimizer)
        self._unscaled.discard(optimizer)
        self._stepped.add(optimizer)
        return bool(calls)

    def state_dict(self) -> dict[str, Any]:
        """The scaler's state: the scale, its factors, and the steps since it last changed; empty before the first run."""
        if self.scaler is None:
            return {}
        self._update()
        state: dict[str, Any] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""
        if not state_dict:
            return
        if self.scaler is None:
            self.scaler = GradScaler("cpu", **self._options)  # :meth:`check` makes it the device's
        self.scaler.load_state_dict(state_dict)

    def _scaler_for(self, device_type: str) -> GradScaler:
        if self.scaler is None:
            self.scaler = GradScaler(device_type, **self._options)
        return self.scaler

    def _restart(self, device_type: str) -> None:
        """A new scaler with the last one's scale: one that a failed run left in the middle of a step refuses the next step."""
        state = self.scaler.state_dict() if self.scaler is not None else None
        self._unscaled.clear()
        self._stepped.clear()
        self._scaled_backward = False
        self.scaler = GradScaler(device_type, **self._options)
        if state:
            self.scaler.load_state_dict(state)

    def _update(self) -> None:
        if self._stepped and self.scaler is not None:
            self.scaler.update()
            self._stepped.clear()

    def _no_closure(self, optimizer: Optimizer) -> str:
        return (
            f"precision={self.name!r}: {type(optimizer).__name__} evaluates the loss several times in one step, which a gradient "
            f"scaler cannot follow; use precision='bf16-mixed' or '32-true'"
        )


class _Held:
    """The gradients that an optimizer's parameters have before a backward."""

    def __init__(self, optimizer: Optimizer) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.before = [(parameter, parameter.grad, _version(parameter.grad)) for parameter in parameters]
        self.any = [gradient.any() for _, gradient, _ in self.before if gradient is not None]  # not read from the device yet

    def has_changed(self) -> bool:
        """Whether the backward added to them."""
        return any(
            parameter.grad is not gradient or _version(parameter.grad) != version for parameter, gradient, version in self.before
        )

    def was_any(self) -> bool:
        """Whether there was one that is not zero."""
        return any(bool(found) for found in self.any)


def _version(gradient: Tensor | None) -> int:
    return -1 if gradient is None else gradient._version


@contextmanager
def _watched(optimizer: Optimizer) -> Iterator[list[None]]:
    """A list that gets an entry at each call of ``optimizer.step``.

    The scaler returns the same for a step that it skipped, comparing scales would read the device once more, and torch's
    hooks after a step do not fire for every optimizer class of others.
    """
    calls: list[None] = []
    original = optimizer.step
    before = vars(optimizer).get("step")  # a scheduler puts its own function there

    @wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return original(*args, **kwargs)

    optimizer.step = step  # type: ignore[method-assign]  # until the block ends
    try:
        yield calls
    finally:
        if before is None:
            del optimizer.step
        else:
            optimizer.step = before  # type: ignore[method-assign]  # what was there before


def _needs_closure(optimizer: Optimizer) -> bool:
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is parameter.empty


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
