"""Finds tensors made under inference mode where training would touch them, and says so in words of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from leyden.messages import add_note, listed
from leyden.module import Module

_WAY_OUT = (
    "keep value.clone() made after the run, set it anew from .tolist() or numpy, or pass Trainer(inference_mode=False), which "
    "evaluates under torch.no_grad"
)


def refuse_parameters(module: Module) -> None:
    """Checks what a fit is about to train.

    Raises:
        RuntimeError: a parameter or a buffer was made under inference mode.
    """
    for kind, named in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in named:
            if not is_lazy(tensor) and tensor.is_inference():  # one that waits for its first batch to have a shape is neither
                raise RuntimeError(
                    f"the {kind} {name!r} of {type(module).__name__} was made in validate(), test() or predict(), under "
                    f"torch.inference_mode, and cannot be trained with; {_WAY_OUT}"
                )


def explain(error: BaseException, module: Module) -> None:
    """Notes on torch's error about inference tensors which attributes of the module, or of its parts, hold some."""
    if not isinstance(error, RuntimeError) or "nference tensor" not in str(error):
        return
    found = list(dict.fromkeys(_kept(module)))
    where = f"{type(module).__name__} keeps such tensors as {listed(found)}" if found else "something keeps one"
    add_note(
        error,
        f"a tensor that validate(), test() or predict() made under torch.inference_mode was used in training: {where}; "
        f"{_WAY_OUT}",
    )


def _kept(module: Module) -> Iterator[str]:
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if not name.startswith("_") and _holds(value, depth=3):
                yield f"{prefix}.{name}" if prefix else name


def _holds(value: Any, depth: int) -> bool:
    if isinstance(value, Tensor):
        return value.is_inference()
    if depth and isinstance(value, Mapping):
        return any(_holds(item, depth - 1) for item in value.values())
    return bool(depth) and isinstance(value, list | tuple) and any(_holds(item, depth - 1) for item in value)
