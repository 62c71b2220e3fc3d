"""Small runs that contracts look at."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from leyden.accelerator import Accelerator
from leyden.callback import Callback
from leyden.checkpoint.plain import NotPlain, plain
from leyden.component import Component
from leyden.precision import Precision
from leyden.strategy import Strategy
from leyden.testing.modules import TinyModule
from leyden.trainer import Trainer

E = TypeVar("E", bound=BaseException)


class Breakdown(Exception):
    """What :class:`FailingModule` raises."""


class FailingModule(TinyModule):
    """A tiny module whose second training batch raises :class:`Breakdown`."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 1:
            raise Breakdown("the second batch breaks down")
        return super().training_step(batch, batch_idx)


class Probe(Callback):
    """Calls a function ``(trainer, module)`` once, when training starts, and keeps what it returns."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.result: Any = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.result = self.function(trainer, module)


def tiny(kind: type[TinyModule] = TinyModule) -> TinyModule:
    """A tiny module with the same weights each time; the random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind()


def quiet(root: Path, **options: Any) -> Trainer:
    """A Trainer of one epoch on one CPU that logs, prints and saves nothing by itself.

    Args:
        root: where it may write.
        options: further arguments of the Trainer, or others in place of these.
    """
    arguments: dict[str, Any] = {
        "accelerator": Accelerator(),
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": root,
    }
    return Trainer(**{**arguments, **options})


def plainly_trained(root: Path, **options: Any) -> TinyModule:
    """A tiny module after one epoch with the plain case of every part."""
    module = tiny()
    quiet(root, strategy=Strategy(), precision=Precision(), **options).fit(module)
    return module


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the module's state on the CPU, by name."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest absolute difference between tensors of the same name.

    Raises:
        AssertionError: names or shapes differ, or a value is not finite.
    """
    assert list(found) == list(expected), f"the names are {list(found)}, expected {list(expected)}"
    largest = 0.0
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape, f"{name} has shape {tuple(tensor.shape)}"
        assert tensor.isfinite().all(), f"{name} is not finite: {tensor}"
        if tensor.numel():
            largest = max(largest, (tensor.double() - expected[name].double()).abs().max().item())
    return largest


def introduced(component: object, base: type[Component]) -> None:
    """Checks that ``component`` is of its kind and has a name.

    Raises:
        AssertionError: it is not, or has none.
    """
    assert isinstance(component, base), f"{component!r} is not a leyden.{base.__name__}"
    name = getattr(component, "name", None)
    assert isinstance(name, str), f"{type(component).__qualname__}.name is {name!r}, not a str"
    assert name, f"{type(component).__qualname__}.name is empty"


def refusal(kind: type[E], function: Callable[..., Any], *args: Any) -> E:
    """The exception of type ``kind`` that ``function(*args)`` raises.

    Raises:
        AssertionError: it raises nothing, or something else.
    """
    name = getattr(function, "__qualname__", repr(function))
    call = f"{name}({', '.join(_short(arg) for arg in args)})"
    try:
        result = function(*args)
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(f"{call} raised {type(error).__name__}: {error}; expected {kind.__name__}") from error
    raise AssertionError(f"{call} returned {_short(result)}; expected {kind.__name__}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 and "\n" not in text else f"<{type(value).__name__}>"


def stored(state: Any) -> Any:
    """``state`` after a trip through a file that ``torch.load(weights_only=True)`` reads.

    Raises:
        AssertionError: it is not plain data.
    """
    try:
        kept = plain(state, "state_dict()")  # as checkpoints do
    except NotPlain as error:
        raise AssertionError(f"{error}; checkpoints hold tensors, numbers, strings, lists and dicts only") from error
    file = io.BytesIO()
    torch.save(kept, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(found: Any, expected: Any) -> bool:
    """Whether two nests of plain data are equal, tensors by value and dtype."""
    if isinstance(expected, Tensor):
        return isinstance(found, Tensor) and found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, Mapping):
        return (
            isinstance(found, Mapping)
            and list(found) == list(expected)
            and all(same(found[key], expected[key]) for key in expected)
        )
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(expected)
            and all(same(a, b) for a, b in zip(found, expected, strict=True))
        )
    return bool(found == expected)


def files(root: Path) -> dict[str, bytes]:
    """Every file below ``root`` with its contents."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
