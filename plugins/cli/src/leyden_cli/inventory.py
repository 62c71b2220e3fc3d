"""What the installed plug-ins are, as plain data."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from leyden import plugins
from leyden.binding import hook_names
from leyden.plugins import HOOK_GROUP, Plugin, PluginError

CALLBACK_GROUP = "leyden.callbacks"


@dataclass
class PluginReport:
    """One name, and what came of importing it."""

    group: str
    name: str
    value: str
    """Where its object is: ``package.module:attribute``."""

    disabled: bool
    """Switched off by ``LEYDEN_DISABLE_PLUGINS``, and so not imported."""

    import_ms: float | None = None
    """Milliseconds to import it after leyden itself and the plug-ins before it; None if it was not or could not be."""

    hooks: list[str] = field(default_factory=list)
    """The hooks it answers."""

    error: str | None = None
    """Why it cannot be used."""


@dataclass
class DistributionReport:
    """One installed distribution that brings plug-ins."""

    distribution: str
    version: str
    plugins: list[PluginReport]


@dataclass
class ConflictReport:
    """One name that several distributions claim."""

    group: str
    name: str
    claimants: list[str]
    """What to write in place of the name, one for each distribution: ``name@distribution``."""


@dataclass
class Inventory:
    """All plug-ins on this machine."""

    distributions: list[DistributionReport]
    conflicts: list[ConflictReport]


def take() -> Inventory:
    """Imports every plug-in that is not switched off, and says what it found; a broken one stops nothing."""
    owners: dict[str, list[Plugin]] = {}
    for plugin in plugins.installed():
        owners.setdefault(plugin.distribution, []).append(plugin)
    distributions = [
        DistributionReport(owner, owned[0].version, [_examine(plugin) for plugin in sorted(owned, key=_place)])
        for owner, owned in sorted(owners.items())
    ]
    conflicts = [
        ConflictReport(claims[0].group, claims[0].name, sorted(f"{claim.name}@{claim.distribution}" for claim in claims))
        for claims in plugins.conflicts()
    ]
    return Inventory(distributions, conflicts)


def _place(plugin: Plugin) -> tuple[str, str]:
    return plugin.group, plugin.name


def _examine(plugin: Plugin) -> PluginReport:
    report = PluginReport(plugin.group, plugin.name, plugin.value, plugins.is_disabled(plugin))
    if report.disabled:
        return report
    start = time.perf_counter()
    try:
        loaded = plugin.load()
    except PluginError as error:
        cause = error.__cause__
        report.error = f"{type(cause).__name__}: {cause}"
        return report
    report.import_ms = round((time.perf_counter() - start) * 1000, 1)
    report.hooks = hooks_of(loaded, needs_mark=plugin.group not in (HOOK_GROUP, CALLBACK_GROUP))
    if plugin.group == HOOK_GROUP and not report.hooks:
        report.error = f"it answers no hook; a plug-in of the group {HOOK_GROUP!r} that does nothing else has no use"
    return report


def hooks_of(plugin: Any, *, needs_mark: bool) -> list[str]:
    """The hooks that a module, a class or an object answers, in the order in which they fire.

    Args:
        plugin: what the entry point names. A function makes a component when it is called, so that it answers none itself.
        needs_mark: whether only what is marked ``@leyden.hookimpl`` counts, as for all components but callbacks.
    """
    found = set(_answered(plugin, needs_mark))
    return [name for name in hook_names() if name in found]


def _answered(plugin: Any, needs_mark: bool) -> Iterator[str]:
    for attribute in dir(plugin):
        static = inspect.getattr_static(plugin, attribute, None)
        function = static.__func__ if isinstance(static, staticmethod | classmethod) else static
        options = getattr(function, "leyden_impl", None)
        # The base class's own methods, which nobody overrode, carry the specification's mark.
        if callable(function) and not hasattr(function, "leyden_spec") and (options or not needs_mark):
            yield (options or {}).get("specname") or attribute
