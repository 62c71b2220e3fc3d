"""Parameters, gradients and optimizer in one number format."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import torch
from leyden import Precision
from leyden.data.transfer import apply_to_tensors
from torch import Tensor, nn
from torch.optim import Optimizer


class FullPrecision(Precision):
    """``"32-true"``: :class:`leyden.Precision` is that plain case, this is the name under which it is chosen."""

    name = "32-true"


class TruePrecision(Precision):
    """The module's floating-point parameters and buffers, and what its steps are given, in ``dtype``; subclasses say which.

    Integers, booleans and complex numbers stay as they are, and so does torch's default dtype: a step that makes a tensor
    of its own gives it the dtype, or uses ``torch.randn_like`` and its kin. The module stays in ``dtype`` after the run.
    """

    dtype: ClassVar[torch.dtype]
    """The number format."""

    def __init_subclass__(cls) -> None:
        cls.storage_dtype = cls.dtype

    def convert_module(self, module: nn.Module) -> None:
        """Converts floating-point parameters and buffers in place."""
        # nn.Module.to(dtype) would also cut the imaginary part off complex ones.
        convert = {torch.float16: module.half, torch.bfloat16: module.bfloat16, torch.float64: module.double}[self.dtype]
        convert()

    def wrap_step(self, step: Callable[..., Any], device_type: str) -> Callable[..., Any]:
        """Returns a callable that runs ``step`` with the floating-point tensors among its arguments converted.

        Tensors are found in dicts, lists, tuples, named tuples and dataclasses, however nested.
        """
        dtype = self.dtype

        def convert(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        @wraps(step)
        def with_converted_inputs(*args: Any, **kwargs: Any) -> Any:
            return step(*apply_to_tensors(args, convert), **apply_to_tensors(kwargs, convert))

        return with_converted_inputs


class FP64Precision(TruePrecision):
    """``"64-true"``: twice the digits, at half the speed or far less."""

    name = "64-true"
    dtype = torch.float64


class BF16Precision(TruePrecision):
    """``"bf16-true"``: half the memory, about 3 significant digits; small updates of large parameters are lost."""

    name = "bf16-true"
    dtype = torch.bfloat16


class FP16Precision(TruePrecision):
    """``"16-true"``: half the memory, about 4 significant digits, and numbers between 6e-8 and 65504 only.

    Gradients are not scaled; ``"16-mixed"`` trains more reliably.
    """

    name = "16-true"
    dtype = torch.float16

    def check(self, optimizers: list[Optimizer], device_type: str) -> None:
        """Called before training.

        Raises:
            ValueError: an optimizer divides by a number that only its ``eps`` keeps from zero, and ``eps`` is zero in 16 bits.
        """
        for index, optimizer in enumerate(optimizers):
            for group in optimizer.param_groups:
                eps = group.get("eps")
                halves = any(parameter.dtype is self.dtype for parameter in group["params"])
                if halves and isinstance(eps, float | Tensor) and torch.as_tensor(eps, dtype=self.dtype) == 0:
                    name = type(optimizer).__name__
                    raise ValueError(
                        f"precision={self.name!r}: eps={float(eps)!r} of {name} (optimizer {index}) is 0 in 16 bits, so that its "
                        f"first step divides by zero; pass {name}(..., eps=1e-4), or use precision='16-mixed'"
                    )
