"""Turns a name such as "ddp" into the component that an installed distribution registered under it."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from typing import Any, TypeVar, cast

from leyden.binding import HookError, check_implementations
from leyden.component import Component
from leyden.elsewhere import ABSENT, CHOICES
from leyden.messages import LeydenWarning, did_you_mean, listed, nearest, quoted, shown, warn

C = TypeVar("C", bound=Component)

HOOK_GROUP = "leyden"
"""Plug-ins of this entry-point group are put on the bus of every run, as pytest does with its own."""

DISABLE_VARIABLE = "LEYDEN_DISABLE_PLUGINS"
"""Distributions or entry-point names, separated by commas, that are treated as not installed."""


class PluginWarning(LeydenWarning):
    """A plug-in is broken and was left out."""


class PluginError(RuntimeError):
    """A plug-in that was asked for by name cannot be imported or built."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of one distribution."""

    name: str
    group: str
    distribution: str
    version: str
    value: str
    entry_point: metadata.EntryPoint

    def load(self) -> Any:
        """Imports the plug-in's object.

        Raises:
            PluginError: it cannot be imported; the original error is the cause.
        """
        try:
            return self.entry_point.load()
        except Exception as error:
            raise PluginError(
                f"plug-in {self.name!r} ({self.group}) of {self.distribution} {self.version} cannot be imported from "
                f"{self.value!r}: {type(error).__name__}: {error}"
            ) from error


def normalized(distribution: str) -> str:
    """A distribution's name as package indexes compare them."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@cache
def _scan(_path: tuple[str, ...]) -> tuple[Plugin, ...]:
    # Reading the metadata of some hundred distributions takes 5 to 40 ms, so once for each search path.
    found = []
    owners: dict[int, tuple[str, str]] = {}  # each look at a name or a version parses all the metadata of a distribution
    everything = metadata.entry_points()
    groups = [group for group in everything.groups if group == HOOK_GROUP or group.startswith(HOOK_GROUP + ".")]
    for entry_point in (entry_point for group in groups for entry_point in everything.select(group=group)):
        distribution = entry_point.dist
        if id(distribution) not in owners:
            owners[id(distribution)] = (distribution.name, distribution.version) if distribution else ("unknown", "?")
        owner, version = owners[id(distribution)]
        found.append(Plugin(entry_point.name, entry_point.group, owner, version, entry_point.value, entry_point))
    return tuple(found)


def installed() -> tuple[Plugin, ...]:
    """Every plug-in of every installed distribution, those that are switched off included; nothing is imported."""
    return _scan(tuple(sys.path))


def disabled() -> set[str]:
    """The distributions and names that ``LEYDEN_DISABLE_PLUGINS`` switches off, normalized."""
    return {normalized(part.strip()) for part in os.environ.get(DISABLE_VARIABLE, "").split(",") if part.strip()}


def is_disabled(plugin: Plugin) -> bool:
    """Whether ``LEYDEN_DISABLE_PLUGINS`` names the plug-in or its distribution."""
    return bool(disabled() & {normalized(plugin.name), normalized(plugin.distribution)})


def available(group: str) -> list[Plugin]:
    """The plug-ins of one group that are not switched off, by name."""
    off = disabled()
    found = [
        plugin
        for plugin in installed()
        if plugin.group == group and not off & {normalized(plugin.name), normalized(plugin.distribution)}
    ]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def conflicts() -> list[tuple[Plugin, ...]]:
    """Plug-ins of different distributions that claim one name of one group."""
    claims: dict[tuple[str, str], list[Plugin]] = {}
    for plugin in installed():
        if plugin.group != HOOK_GROUP and not is_disabled(plugin):
            claims.setdefault((plugin.group, plugin.name), []).append(plugin)
    return [tuple(plugins) for plugins in claims.values() if len(plugins) > 1]


@cache
def catalog() -> dict[str, dict[str, str]]:
    """Which distribution brings which name, by group, for names that are not installed."""
    text = resources.files("leyden").joinpath("catalog.json").read_text(encoding="utf-8")
    return cast("dict[str, dict[str, str]]", json.loads(text))


def names(base: type[Component]) -> list[str]:
    """The names that can be given for a kind of component here and now."""
    plain = [base.name] if hasattr(base, "name") else []
    return sorted({plugin.name for plugin in available(base.group)} | set(plain))


def find(base: type[Component], name: str) -> Plugin | None:
    """The plug-in registered as ``name``, or as ``name@distribution``; None if it is the plain case of core.

    Raises:
        LookupError: nothing installed has that name, or two distributions claim it.
    """
    wanted, _, owner = name.partition("@")
    claims = [plugin for plugin in available(base.group) if plugin.name == wanted]
    if owner:
        matching = [plugin for plugin in claims if normalized(plugin.distribution) == normalized(owner)]
        if not matching:
            _refuse_switched_off(base, name, wanted, owner)
            owners = listed(f"{wanted}@{plugin.distribution}" for plugin in claims)
            raise LookupError(f"{base.kind}={name!r}: distribution {owner!r} does not register {wanted!r}; there is: {owners}")
        return matching[0]
    if len(claims) > 1:
        owners = " and ".join(plugin.distribution for plugin in claims)
        ways = " or ".join(f"{base.kind}={f'{wanted}@{plugin.distribution}'!r}" for plugin in claims)
        raise LookupError(f"{base.kind}={wanted!r} is registered by {owners}; choose with {ways}")
    if claims:
        return claims[0]
    if getattr(base, "name", None) == wanted:
        return None
    _refuse_switched_off(base, name, wanted)
    raise LookupError(_unknown(base, wanted))


def _refuse_switched_off(base: type[Component], choice: str, name: str, owner: str | None = None) -> None:
    for plugin in installed():
        if plugin.group != base.group or plugin.name != name or not is_disabled(plugin):
            continue
        if owner is None or normalized(owner) == normalized(plugin.distribution):
            raise LookupError(
                f"{base.kind}={choice!r}: its plug-in of {plugin.distribution} is switched off by {DISABLE_VARIABLE}"
            )


def _unknown(base: type[Component], name: str) -> str:
    known = names(base)
    elsewhere = catalog().get(base.group, {})
    if name in elsewhere:
        return f"{base.kind}={name!r} comes with {elsewhere[name]}, which is not installed; run: pip install {elsewhere[name]}"
    planned = catalog().get(f"{base.group} to come", {})
    word = name.lower()
    own = f"register a class under {word!r} in the entry-point group {base.group!r}"
    if word in planned:
        return (
            f"{base.kind}={name!r} will come with {planned[word]}, which does not exist yet; installed: {listed(known)}. A "
            f"package of your own can bring it too: {own}"
        )
    message = f"unknown {base.kind} {name!r}"
    if word in CHOICES.get(base.kind, {}):
        return f"{message}; here that is {CHOICES[base.kind][word]}. Installed: {listed(known)}"
    if word in ABSENT.get(base.kind, {}):
        return f"{message}: {ABSENT[base.kind][word]}. Installed: {listed(known)}. A package of your own can bring it: {own}"
    match = nearest(name, [*known, *elsewhere]) or nearest(word, [*known, *elsewhere])
    if match is None:
        return f"{message}; installed: {listed(known)}"
    message += f"; did you mean {match!r}?"
    if match not in known:
        message += f" (pip install {elsewhere[match]})"
    return f"{message} Installed: {listed(known)}"


def required_options(signature: inspect.Signature) -> list[str]:
    """The names of the parameters that a component cannot be made without."""
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in several]


def build(base: type[C], factory: Callable[..., Any], options: Mapping[str, Any], label: str) -> C:
    """Calls a component's class, or the function that makes it, with the user's options.

    Raises:
        TypeError: an option does not exist or is missing, or the result is not such a component.
    """
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        signature = None
    if signature is not None and not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        for option in options:
            if option not in signature.parameters:
                hint = did_you_mean(option, signature.parameters)
                known = f"{hint} Its" if hint else "; its"
                raise TypeError(f"{label} has no option {option!r}{known} options: {listed(signature.parameters)}")
    if signature is not None:
        missing = [name for name in required_options(signature) if name not in options]
        if missing:
            example = f"{{{label.partition(' ')[2]}: {{{missing[0]!r}: ...}}}}"
            raise TypeError(f"{label} needs {listed(missing)}: {example}; its options: {listed(signature.parameters)}")
    built = factory(**options)
    if not _is(base, built):
        raise TypeError(f"{label} made a {type(built).__name__}, which is no {base.__name__}")
    return cast("C", built)


def _is(base: type[Component], value: object) -> bool:
    if isinstance(value, base):
        return True
    # A callback need not inherit from Callback; whether it answers a hook is the bus's question.
    return base.kind == "callback" and not isinstance(value, str | Mapping | type | int | float | list | tuple | None)


def resolve(base: type[C], choice: object, *, argument: str | None = None) -> C:
    """Makes the component that ``choice`` stands for.

    Args:
        base: the base class of the kind, such as :class:`leyden.Strategy`.
        choice: a name, ``{name: options}``, or an object, which is returned as it is.
        argument: how the user calls the place, for messages; the kind if not given.

    Raises:
        LookupError: there is no such name, or two distributions claim it.
        TypeError: ``choice`` is none of the three forms, or an option is wrong.
        PluginError: the plug-in cannot be imported.
    """
    where = argument or base.kind
    options: Mapping[str, Any] = {}
    name = choice
    if isinstance(choice, Mapping):
        if len(choice) != 1 or not isinstance(next(iter(choice)), str):
            raise TypeError(
                f"{where}={quoted(choice, where)}: expected one name with its options, such as {{'name': {{'option': 1}}}}"
            )
        name, given = next(iter(choice.items()))
        if not isinstance(given, Mapping):
            raise TypeError(f"{where}={quoted(choice, where)}: the options of {name!r} must be a dict, got {shown(given)}")
        options = given
    if isinstance(name, str):
        plugin = find(base, name)
        label = f"{base.kind} {name!r}"
        if plugin is None:
            return build(base, base, options, label)
        return build(base, plugin.load(), options, label)
    if isinstance(name, type) and issubclass(name, base):
        raise TypeError(f"{where}={name.__name__} is a class; pass an object, {name.__name__}(...)")
    if _is(base, name):
        return cast("C", name)
    raise TypeError(
        f"{where}={quoted(choice, where)}: expected a name, {{name: options}} or an instance of {base.__name__}, "
        f"got {shown(choice)}"
    )


def load_all(base: type[C]) -> Iterable[tuple[Plugin, Any]]:
    """Imports every registered plug-in of a kind, for ``auto``; a broken one is named in a warning and left out."""
    for plugin in available(base.group):
        try:
            yield plugin, plugin.load()
        except PluginError as error:
            warn("LY011", f"{error}; it is left out", PluginWarning)


def brought_by(part: object) -> Plugin | None:
    """A plug-in of the installed distribution that an object or a module comes from; None if none offers any of its package."""
    module: str = part.__name__ if inspect.ismodule(part) else type(part).__module__
    package = module.split(".")[0]
    others = [plugin for plugin in installed() if plugin.value.split(":")[0].split(".")[0] == package]
    return next((plugin for plugin in others if plugin.value.split(":")[0] == module), others[0] if others else None)


def hook_plugins() -> list[tuple[Plugin, Any]]:
    """The objects to put on the bus of every run: those of the entry-point group ``leyden``.

    An entry point may name a module, an object or a class, which is called without arguments. A broken one, also one whose
    hooks do not fit their specifications, is named in a warning and left out.
    """
    found: list[tuple[Plugin, Any]] = []
    for plugin in available(HOOK_GROUP):
        where = f"plug-in {plugin.name!r} ({plugin.group}) of {plugin.distribution} {plugin.version}"
        try:
            loaded = plugin.load()
            try:
                loaded = loaded() if isinstance(loaded, type) else loaded
            except Exception as error:
                raise PluginError(f"{where} cannot be built: {type(error).__name__}: {error}") from error
            try:
                answers = check_implementations(loaded, plugin.name)
            except HookError as error:
                raise PluginError(f"{where}: {error}") from error
            if not answers:
                raise PluginError(f"{where} answers no hook: {plugin.value!r} is {shown(loaded)}")
        except PluginError as error:
            warn("LY011", f"{error}; it is left out", PluginWarning)
            continue
        if not any(loaded is other for _, other in found):  # one object under two names takes part once
            found.append((plugin, loaded))
    return found
