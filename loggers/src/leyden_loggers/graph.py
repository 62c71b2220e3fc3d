"""Draws a module's graph with TensorBoard's client."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from leyden import Module
from leyden.data.transfer import move_to_device
from torch import nn

if TYPE_CHECKING:
    from leyden import Precision, Trainer
    from torch.utils.tensorboard import SummaryWriter


def draw(writer: SummaryWriter, module: Module, precision: Precision) -> None:
    """Writes what ``forward`` does with ``example_input_array`` (a tensor, a tuple of arguments or a dict of them).

    ``forward`` runs in eval mode, on the module's device and in ``precision``; modes and random states are put back.

    Raises:
        RuntimeError: ``torch.jit.trace``, with which the client draws, cannot follow ``forward``.
    """
    example = module.example_input_array
    names = tuple(example) if isinstance(example, Mapping) else ()
    inputs = tuple(example.values()) if names else example if isinstance(example, tuple) else (example,)
    # The class's name is that of the box in which everything is drawn.
    drawing = type(type(module).__name__, (_Drawing,), {})(module, names)

    def trace(*values: Any) -> None:
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # the tracer takes weights that were cast before for constants
        try:
            writer.add_graph(drawing, values)
        finally:
            torch.set_autocast_cache_enabled(cached)

    device = module.device
    with _undisturbed(module), _properties_harmless(module), torch.no_grad(), _quiet_tracing():
        precision.wrap_step(trace, device.type)(*move_to_device(inputs, device))


class _Drawing(nn.Module):
    """Passes inputs on by name, which the client cannot, and has no property that the tracer could stumble over."""

    def __init__(self, module: Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *values: Any) -> Any:
        return self.module(**dict(zip(self.names, values, strict=True))) if self.names else self.module(*values)


@contextmanager
def _undisturbed(module: Module) -> Iterator[None]:
    """Puts back the random states and each child's mode: the client puts the whole module into the root's mode."""
    modes = [(child, child.training) for child in module.modules()]
    devices = [module.device.index or 0] if module.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for child, training in modes:
            child.training = training


@contextmanager
def _properties_harmless(module: Module) -> Iterator[None]:
    """The tracer reads every property of every module and survives an AttributeError only: no trainer, no other error."""
    alone = [child for child in module.modules() if isinstance(child, Module) and not _is_attached(child)]
    for child in alone:
        child.trainer = cast("Trainer", object())
    try:
        yield
    finally:
        for child in alone:
            child.trainer = None


def _is_attached(module: Module) -> bool:
    try:
        return bool(module.trainer)
    except RuntimeError:
        return False


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    with warnings.catch_warnings():
        # The client draws with torch.jit.trace, which torch deprecates without offering the client anything else, and which
        # warns of what a traced program would not repeat; a drawing is never run. What forward itself warns of comes again
        # in training.
        warnings.simplefilter("ignore")
        yield
