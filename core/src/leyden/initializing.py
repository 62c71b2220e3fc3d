"""Builds modules where they will run and in the format that they will be stored in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from leyden.trainer import Trainer


class _NoInitialization(TorchFunctionMode):
    """Leaves tensors as they were allocated where ``torch.nn.init`` would fill them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


@contextmanager
def init_module(trainer: Trainer, empty_init: bool | None) -> Iterator[None]:
    """See :meth:`leyden.Trainer.init_module`."""
    with ExitStack() as switches:
        switches.enter_context(trainer.strategy.device)
        dtype = trainer.precision.storage_dtype
        if dtype is not None:
            switches.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(dtype)
        if empty_init:
            switches.enter_context(_NoInitialization())
        yield
