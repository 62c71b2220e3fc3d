"""Binds a step function to the arguments it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from leyden.compile import compiled
from leyden.module import Module
from leyden.returned import returned_callable

if TYPE_CHECKING:
    from leyden.trainer import Trainer


def takes_optimizer_idx(module: Module) -> bool:
    """Whether ``training_step`` is to be called once for each optimizer, with its index."""
    return "optimizer_idx" in inspect.signature(module.training_step).parameters


def bind_step(
    trainer: Trainer,
    module: Module,
    name: str,
    *,
    several: bool = False,
    names: Sequence[str] = (),
    optimizer_idx: int | None = None,
) -> Callable[..., Any]:
    """The callable that runs a step function each batch, in the run's strategy, precision and profiler, compiled if so asked.

    Args:
        trainer: the run.
        module: whose step function.
        name: ``"training_step"`` and so on.
        several: whether ``dataloader_idx`` is passed.
        names: the loaders' names; a step function that takes ``dataloader_name`` is passed that of the loader read.
        optimizer_idx: passed by this name, if given.

    Returns:
        A function of ``(batch, batch_idx)``, and of ``dataloader_idx`` with ``several``; it is the bound method itself where
        that takes those arguments and nothing surrounds it.

    Raises:
        TypeError: the step function needs other arguments.
    """
    strategy, precision, profiler = trainer.strategy, trainer.precision, trainer.profiler
    step = compiled(trainer, returned_callable(strategy.wrap_step(module, name), strategy, "wrap_step"))
    step = returned_callable(precision.wrap_step(step, strategy.device.type), precision, "wrap_step")
    step = returned_callable(profiler.wrap(step, f"[Module]{type(module).__qualname__}.{name}"), profiler, "wrap")
    wanted = ("batch", "batch_idx", "dataloader_idx") if several else ("batch", "batch_idx")
    method = getattr(module, name)
    parameters = list(inspect.signature(method).parameters.values())
    if optimizer_idx is not None:
        step = partial(step, optimizer_idx=optimizer_idx)
        parameters = [p for p in parameters if p.name != "optimizer_idx"]
    named = names and any(p.name == "dataloader_name" for p in parameters)
    if named:
        parameters = [p for p in parameters if p.name != "dataloader_name"]
        count = _arguments(module, name, parameters, wanted, several)

        def call_named(*values: Any) -> Any:
            return step(*values[:count], dataloader_name=names[values[2] if several else 0])

        return call_named
    count = _arguments(module, name, parameters, wanted, several)
    if count >= len(wanted):
        return step

    def call(*values: Any) -> Any:
        return step(*values[:count])

    return call


def _arguments(module: Module, name: str, parameters: list[inspect.Parameter], wanted: tuple[str, ...], several: bool) -> int:
    """How many of the arguments ``wanted`` a step function takes by position.

    Raises:
        TypeError: it needs others.
    """
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return len(wanted)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(required) > len(wanted) or keyword:
        shape = f"{name}(self, {', '.join(wanted)})"
        hint = (
            ""
            if several or not any(p.name == "dataloader_idx" for p in required)
            else "; there is one loader, so give dataloader_idx a default"
        )
        raise TypeError(
            f"{type(module).__name__}.{name}{inspect.signature(getattr(module, name))} does not fit: write {shape}{hint}"
        )
    return min(len(positional), len(wanted))
