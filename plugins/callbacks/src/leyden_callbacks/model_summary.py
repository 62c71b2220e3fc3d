"""Prints the layers of the module with their parameters when training starts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.messages import add_note
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from leyden_callbacks.arguments import check_int
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class ModelSummary(Callback):
    """Prints :func:`summarize` of the module on standard error, on rank 0, when a fit starts, and before its first step what
    it will do when.

    Args:
        max_depth: how many levels of layers to show; 0 shows the totals only, -1 all levels.

    Raises:
        TypeError: it is no int.
        ValueError: it is less than -1.
    """

    name = "model_summary"
    role = "model_summary"

    def __init__(self, max_depth: int = 1) -> None:
        check_int(type(self).__name__, "max_depth", max_depth, -1)
        self.max_depth = max_depth

    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        """Prints the summary."""
        if self.max_depth and module.example_input_array is not None:
            forward = trainer.precision.wrap_step(module.__call__, trainer.strategy.device.type)
            text = summarize(module, self.max_depth, forward=forward)
        else:
            text = summarize(module, self.max_depth)
        if trainer.is_global_zero:
            print(text, file=sys.stderr, flush=True)

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Prints the fit's outline."""
        for line in trainer.outline().splitlines():
            say(trainer, line)


@dataclass
class Layer:
    """One row of a summary."""

    name: str
    type: str
    params: str
    in_sizes: str = ""
    out_sizes: str = ""


def summarize(module: nn.Module, max_depth: int = 1, *, forward: Callable[..., Any] | None = None) -> str:
    """Describes a module as text.

    Args:
        module: any module. If it has an ``example_input_array``, it is called once with that, in eval mode and without
            gradients, for the sizes of what goes in and out of each layer; random states stay as they were.
        max_depth: how many levels of layers to show; 0 shows the totals only, -1 all levels.
        forward: what to call instead of the module.

    Returns:
        A table of the layers, then the numbers of trainable, other and all parameters and their size in MB (1e6 bytes). A
        parameter shared by several layers counts in each of them, and once in the totals. Parameters of lazy layers, whose
        shape is not known before their first call, count as 0.
    """
    layers = list(_layers(module, max_depth)) if max_depth else []
    example = getattr(module, "example_input_array", None)
    if layers and example is not None:
        sizes = _sizes(module, {layer.name for layer in layers}, example, forward or module)
        for layer in layers:
            layer.in_sizes, layer.out_sizes = sizes.get(layer.name, ("?", "?"))
    parameters = list(module.parameters())
    known = [parameter for parameter in parameters if not is_lazy(parameter)]
    trainable = sum(parameter.numel() for parameter in known if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in known)
    megabytes = sum(parameter.numel() * parameter.element_size() for parameter in known) / 1e6
    totals = [
        (readable(trainable), "trainable parameters"),
        (readable(total - trainable), "non-trainable parameters"),
        (readable(total), "parameters in all"),
        (f"{megabytes:.3f}", "MB of parameters"),
    ]
    lines = [*_table(layers), *(f"{number:<10}{what}" for number, what in totals)]
    if len(known) < len(parameters):
        lines.append(f"{len(parameters) - len(known):<10}lazy parameters, not counted before their first use")
    return "\n".join(lines)


def readable(count: int) -> str:
    """A count with three digits and a unit: ``650``, ``1.2 K``, ``65 K``, ``7.0 B``."""
    number, units = float(count), ["", " K", " M", " B", " T"]
    while number >= 999.5 and len(units) > 1:
        number /= 1000
        units.pop(0)
    if units[0]:
        return f"{number:.1f}{units[0]}" if number < 99.95 else f"{number:.0f}{units[0]}"
    return str(count)


def _layers(module: nn.Module, max_depth: int) -> Iterator[Layer]:
    for name, child in module.named_modules():
        if name and (max_depth < 0 or name.count(".") < max_depth):
            yield Layer(name, type(child).__name__, _params(child.parameters()))
    own = list(module.parameters(recurse=False))
    if own:
        yield Layer("", "parameters of its own", _params(iter(own)))


def _params(parameters: Iterator[nn.Parameter]) -> str:
    found = list(parameters)
    known = [parameter for parameter in found if not is_lazy(parameter)]
    count = readable(sum(parameter.numel() for parameter in known))
    if len(known) < len(found):
        return f"{count} + lazy" if known else "lazy"
    return count


def _table(layers: list[Layer]) -> list[str]:
    if not layers:
        return []
    rows: list[tuple[str, ...]] = [("Name", "Type", "Params", "In sizes", "Out sizes")]
    rows += [(layer.name, layer.type, layer.params, layer.in_sizes, layer.out_sizes) for layer in layers]
    if not any(layer.in_sizes for layer in layers):
        rows = [row[:3] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        " | ".join(
            f"{cell:>{width}}" if column == 2 else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "-" * (sum(widths) + 3 * (len(widths) - 1))
    return [lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:]), rule]


def _sizes(module: nn.Module, names: set[str], example: Any, forward: Callable[..., Any]) -> dict[str, tuple[str, str]]:
    """The sizes of what went in and out of the named layers when ``forward`` was called with ``example``."""
    found: dict[str, tuple[str, str]] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            found.setdefault(name, (_size(inputs[0] if len(inputs) == 1 else inputs), _size(output)))

        return hook

    hooks = [
        layer.register_forward_hook(record(name))
        for name, layer in module.named_modules()
        if name in names and name and not isinstance(layer, torch.jit.ScriptModule)
    ]
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    device: torch.device = getattr(module, "device", torch.device("cpu"))
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            transfer: Any = getattr(module, "transfer_batch_to_device", None)
            if transfer is not None:
                example = transfer(example, device, 0)
            if isinstance(example, tuple):
                forward(*example)
            elif isinstance(example, dict):
                forward(**example)
            else:
                forward(example)
    except Exception as error:
        add_note(error, f"while {type(module).__name__} was called with its example_input_array for the model summary")
        raise
    finally:
        for handle in hooks:
            handle.remove()
        for layer, mode in modes:
            layer.training = mode
    return found


def _size(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_size(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_size(item) for item in value) + "]"
    return "?"
