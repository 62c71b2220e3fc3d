"""Finds the object that a name of Lightning's stands for."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from leyden.plugins import available

from leyden_lightning.api import surface
from leyden_lightning.api.missing import missing


@cache
def resolve(name: str) -> Any:
    """The object of the table's entry for a name.

    Entries are ``"package.module:attribute"``; ``"callbacks/Class"`` for a class of whoever registers callbacks, likewise
    loggers and so on; or a sentence that says why there is none, and what to do.
    """
    target = surface.NAMES[name]
    if " " in target:
        return missing(name, target)
    group, slash, attribute = target.partition("/")
    if slash:
        return of_plugins(f"leyden.{group}", attribute, name)
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def of_plugins(group: str, attribute: str, name: str) -> Any:
    """What a distribution that registers parts of a kind has under a name of its package; a placeholder if none has it.

    Which distribution that is, is nobody's business here: the entry points say.
    """
    plugins = available(group)
    for plugin in plugins:
        if plugin.value.endswith(f":{attribute}"):
            return plugin.load()
    for package in dict.fromkeys(plugin.value.partition(":")[0].partition(".")[0] for plugin in plugins):
        found = getattr(importlib.import_module(package), attribute, None)
        if found is not None:
            return found
    kind = group.partition(".")[2]
    return missing(name, f"no installed distribution has such a part among its {kind}; `leyden plugins` lists what there is")
