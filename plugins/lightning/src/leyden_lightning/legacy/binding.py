"""Binds functions of other generations: by parameter name, then by position in the order of 2.6, then with what 1.x had."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

ALIASES = {
    "closure": "optimizer_closure",
    "second_order_closure": "optimizer_closure",
    "lambda_closure": "optimizer_closure",
    "current_epoch": "epoch",
    "batch_nb": "batch_idx",
    "batch_id": "batch_idx",
    "optimizer_i": "optimizer_idx",
    "opt_idx": "optimizer_idx",
    "dataloader_i": "dataloader_idx",
    "dataset_idx": "dataloader_idx",
    "pl_module": "module",
    "model": "module",
    "opt": "optimizer",
}
"""What users and older releases called arguments, and what they are called now."""

Fill = Callable[[Sequence[Any]], Any]
"""Makes the value of an argument that 2.6 no longer passes from the values that it does pass."""


def positional(function: Any) -> list[inspect.Parameter]:
    """The parameters of a bound method that take values by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]


def takes_any(function: Any) -> bool:
    """Whether a function has ``*args``."""
    return any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values())


def canonical(name: str) -> str:
    """An argument's name of today."""
    return ALIASES.get(name, name)


def bind(
    function: Callable[..., Any], modern: Sequence[str], fills: Mapping[str, Fill], old_order: Sequence[str] = ()
) -> Callable[..., Any] | None:
    """A function of the arguments of 2.6, by position, that calls ``function`` with what it takes.

    Args:
        function: a bound method of the user's.
        modern: the arguments of 2.6.
        fills: what older releases passed beside them.
        old_order: the arguments of 1.x, by which unknown names are understood where there are more than 2.6 has.

    Returns:
        None if ``function`` takes the arguments of 2.6 as they are, or needs something that nobody had.
    """
    parameters = positional(function)
    if takes_any(function):
        # 1.x passed more than 2.6 to a method that takes anything; what it takes by name is decided below.
        required = [p for p in parameters if p.default is p.empty]
        if len(required) <= len(modern):
            return None
    order = list(old_order) if len(parameters) > len(modern) and old_order else list(modern)
    named = {p.name: canonical(p.name) for p in parameters}
    known = {name for name in named.values() if name in modern or name in fills}
    free = [name for name in order if name not in known]
    plan: list[int | Fill] = []
    for parameter in parameters:
        name = named[parameter.name]
        if name not in known:
            if parameter.default is not parameter.empty and not free:
                break  # an option of the user's own
            if not free:
                return None
            name = free.pop(0)
        if name in modern:
            plan.append(list(modern).index(name))
        else:
            plan.append(fills[name])
    if plan == list(range(len(modern))) or (all(isinstance(part, int) for part in plan) and len(plan) == len(modern) == 0):
        return None

    def call(*values: Any) -> Any:
        return function(*[values[part] if isinstance(part, int) else part(values) for part in plan])

    return call
