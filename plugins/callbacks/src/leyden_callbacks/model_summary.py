"""Prints the layers of the module with their parameters when training starts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.messages import add_note
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from leyden_callbacks.arguments import check_choice, check_int
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class ModelSummary(Callback):
    """Prints :func:`summarize` of the module on standard error, on rank 0, when a fit starts, and before its first step what
    it will do when.

    Args:
        max_depth: how many levels of layers to show; 0 shows the totals only, -1 all levels.
        style: ``"plain"``, ``"rich"`` for a table with lines and colours, or ``"auto"`` for rich on a terminal where it is
            installed.

    Raises:
        TypeError: ``max_depth`` is no int.
        ValueError: it is less than -1, or there is no such style.
        ImportError: rich is asked for and not installed.
    """

    name = "model_summary"
    role = "model_summary"

    def __init__(self, max_depth: int = 1, style: str = "plain") -> None:
        check_int(type(self).__name__, "max_depth", max_depth, -1)
        check_choice(type(self).__name__, "style", style, ("plain", "rich", "auto"))
        if style == "rich" and find_spec("rich") is None:
            raise ImportError(
                f"{type(self).__name__}(style='rich') needs rich, which is not installed; run: "
                'pip install "leyden-callbacks[rich]"'
            )
        self.max_depth = max_depth
        self.style = style

    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        """Prints the summary."""
        forward = None
        if self.max_depth and module.example_input_array is not None:
            forward = trainer.precision.wrap_step(module.__call__, trainer.strategy.device.type)
        layers, totals = _describe(module, self.max_depth, forward)
        if not trainer.is_global_zero:
            return
        if self.style == "rich" or (self.style == "auto" and sys.stderr.isatty() and find_spec("rich") is not None):
            _print_rich(layers, totals)
        else:
            print("\n".join([*_table(layers), *totals]), file=sys.stderr, flush=True)

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Prints the fit's outline."""
        for line in trainer.outline().splitlines():
            say(trainer, line)


class RichModelSummary(ModelSummary):
    """:class:`ModelSummary` as a table of rich; ``max_depth`` is its only argument.

    Raises:
        TypeError: ``max_depth`` is no int.
        ValueError: it is less than -1.
        ImportError: rich is not installed.
    """

    def __init__(self, max_depth: int = 1) -> None:
        super().__init__(max_depth, style="rich")


@dataclass
class Layer:
    """One row of a summary."""

    name: str
    type: str
    params: str
    mode: str = ""
    flops: str = ""
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
        A table of the layers with their mode, and with an example the operations of its forward pass as far as torch's counter
        knows them (matrix products, convolutions, attention). Then the numbers of trainable, other and all parameters and
        their size in MB (1e6 bytes). A parameter shared by several layers counts in each of them, and once in the totals.
        Parameters of lazy layers, whose shape is not known before their first call, count as 0.
    """
    layers, totals = _describe(module, max_depth, forward)
    return "\n".join([*_table(layers), *totals])


def _describe(module: nn.Module, max_depth: int, forward: Callable[..., Any] | None) -> tuple[list[Layer], list[str]]:
    """The rows of the table, and the lines below it."""
    layers = list(_layers(module, max_depth)) if max_depth else []
    operations = 0
    example = getattr(module, "example_input_array", None)
    if layers and example is not None:
        sizes, operations = _sizes(module, {layer.name for layer in layers}, example, forward or module)
        for layer in layers:
            layer.in_sizes, layer.out_sizes, count = sizes.get(layer.name, ("?", "?", 0))
            layer.flops = readable(count)
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
    if operations:
        totals.append((readable(operations), "FLOPs of forward on the example"))
    lines = [f"{number:<10}{what}" for number, what in totals]
    if len(known) < len(parameters):
        lines.append(f"{len(parameters) - len(known):<10}lazy parameters, not counted before their first use")
    return layers, lines


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
            yield Layer(name, type(child).__name__, _params(child.parameters()), "train" if child.training else "eval")
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
    rows = _rows(layers)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        " | ".join(
            f"{cell:>{width}}" if rows[0][column] in _RIGHT else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "-" * (sum(widths) + 3 * (len(widths) - 1))
    return [lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:]), rule]


_RIGHT = ("Params", "FLOPs")


def _rows(layers: list[Layer]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("Name", "Type", "Params", "Mode", "FLOPs", "In sizes", "Out sizes")]
    rows += [(row.name, row.type, row.params, row.mode, row.flops, row.in_sizes, row.out_sizes) for row in layers]
    return rows if any(layer.in_sizes for layer in layers) else [row[:4] for row in rows]


def _print_rich(layers: list[Layer], totals: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    if layers:
        header, *rows = _rows(layers)
        table = Table(header_style="bold magenta")
        for title in header:
            table.add_column(title, justify="right" if title in _RIGHT else "left", no_wrap=title == "Name")
        for row in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))  # a size is no markup
        console.print(table)
    for line in totals:
        console.print(line, markup=False, highlight=False)


def _sizes(
    module: nn.Module, names: set[str], example: Any, forward: Callable[..., Any]
) -> tuple[dict[str, tuple[str, str, int]], int]:
    """What went in and out of the named layers and their operations when ``forward`` was called, and all operations."""
    from torch.utils.flop_counter import FlopCounterMode  # imports much, and few modules have an example

    found: dict[str, tuple[str, str, int]] = {}
    counter = FlopCounterMode(display=False)
    begun: dict[str, int] = {}

    def begin(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: Any) -> None:
            begun[name] = counter.get_total_flops()

        return hook

    def record(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            count = counter.get_total_flops() - begun[name]
            _, _, before = found.get(name, ("", "", 0))
            found[name] = (_size(inputs[0] if len(inputs) == 1 else inputs), _size(output), before + count)

        return hook

    hooks = [
        handle
        for name, layer in module.named_modules()
        if name in names and name and not isinstance(layer, torch.jit.ScriptModule)
        for handle in (layer.register_forward_pre_hook(begin(name)), layer.register_forward_hook(record(name)))
    ]
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    device: torch.device = getattr(module, "device", torch.device("cpu"))
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), counter, torch.random.fork_rng(devices=devices):
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
    return found, counter.get_total_flops()


def _size(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_size(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_size(item) for item in value) + "]"
    return "?"
