"""What the port answers for every Trainer: arguments, hooks and methods of older Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import leyden
from leyden import hookimpl
from leyden.binding import FORMER

from leyden_lightning.legacy import arguments as older
from leyden_lightning.legacy import attributes
from leyden_lightning.legacy.hooks import adapted_hooks
from leyden_lightning.legacy.methods import adapted_methods

attributes.add()

calls_methods = tuple(FORMER)
"""Methods of modules that are called although leyden itself never calls them."""


@hookimpl
def translate_arguments(arguments: dict[str, Any]) -> Mapping[str, Any]:
    """Translates old arguments of a :class:`leyden.Trainer`; those that need to see the others are for the port's own."""
    known = {name: arguments.pop(name) for name in list(arguments) if name in older.SIMPLE}
    for name in arguments:
        if name in older.OLD:
            raise TypeError(f"Trainer() has no argument {name!r}; it was Lightning's, and leyden_lightning.Trainer translates it")
    translation = older.Translation(known)
    return translation.run(older.SIMPLE)


@hookimpl
def adapt_hooks(participant: Any, role: str) -> Mapping[str, Any]:
    """Binds the hooks of older generations."""
    return adapted_hooks(participant, role)


@hookimpl
def adapt_methods(trainer: leyden.Trainer, owner: Any) -> Mapping[str, Any]:
    """Puts steps of older generations in place."""
    attributes.remember(trainer)
    return adapted_methods(trainer, owner)
