"""Steps under torch.autocast, with parameters in 32 bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import torch
from leyden import Precision
from torch.optim import Optimizer


class MixedPrecision(Precision):
    """Parameters, gradients and optimizer in 32 bits; each step under ``torch.autocast``, which picks 16 bits where it is safe.

    Backward and the optimizer run outside of it, as torch recommends. Subclasses say in which ``dtype``.
    """

    dtype: ClassVar[torch.dtype]
    """What ``torch.autocast`` computes in."""

    def check(self, optimizers: list[Optimizer], device_type: str) -> None:
        """Called before training.

        Raises:
            ValueError: ``torch.autocast`` cannot compute in ``dtype`` on such a device.
        """
        # torch.autocast answers what it cannot do with a warning, and then computes in 32 bits.
        with warnings.catch_warnings(record=True) as refusals:
            warnings.simplefilter("always")
            try:
                torch.autocast(device_type, self.dtype)
            except (RuntimeError, AssertionError) as error:
                refusals.append(error)  # type: ignore[arg-type]  # either is only shown
        if refusals:
            refusal = refusals[0]
            reason = str(refusal.message if isinstance(refusal, warnings.WarningMessage) else refusal).splitlines()[0]
            raise ValueError(
                f"precision={self.name!r}: torch.autocast cannot compute in {self.dtype} on device type {device_type!r} "
                f"({reason}); use precision='32-true'"
            )

    def wrap_step(self, step: Callable[..., Any], device_type: str) -> Callable[..., Any]:
        """Returns a callable that runs ``step`` under ``torch.autocast``."""
        dtype = self.dtype

        @wraps(step)
        def under_autocast(*args: Any, **kwargs: Any) -> Any:
            # A new context for each call: one object keeps a single previous state, which nested steps would overwrite.
            with torch.autocast(device_type, dtype):
                return step(*args, **kwargs)

        return under_autocast


class BF16MixedPrecision(MixedPrecision):
    """``"bf16-mixed"``: steps in bfloat16, whose range is that of 32 bits, so that gradients need no scaling."""

    name = "bf16-mixed"
    dtype = torch.bfloat16
