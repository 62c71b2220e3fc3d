"""Chooses the parts of a run from the Trainer's arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from leyden.accelerator import Accelerator
from leyden.binding import answers_hooks
from leyden.callback import Callback
from leyden.environment import ClusterEnvironment
from leyden.limits import mark, schedule
from leyden.logger import Logger
from leyden.messages import listed, notify, quoted, shown, warn
from leyden.plugins import PluginWarning, load_all, names, resolve
from leyden.strategy import Strategy


def choose_accelerator(choice: Any) -> Accelerator:
    """The accelerator that ``choice`` stands for; ``"auto"`` takes the available one of the highest priority.

    Raises:
        ValueError: it is not available on this machine.
    """
    if choice == "auto":
        found: list[type[Accelerator]] = [*_available_accelerators(), Accelerator]
        return max(found, key=lambda cls: cls.priority)()  # the first of several: a registered one rather than the plain one
    accelerator = resolve(Accelerator, choice)
    if not accelerator.is_available():
        accelerator.parse_devices("auto")  # an accelerator can say better why there is none
        raise ValueError(
            f"accelerator={accelerator.name!r} was asked for, but this machine has no such device; "
            f"use accelerator='auto', which takes the best one there is"
        )
    return accelerator


def _available_accelerators() -> Iterator[type[Accelerator]]:
    for plugin, loaded in load_all(Accelerator):
        if not (isinstance(loaded, type) and issubclass(loaded, Accelerator)):
            continue  # a function that chooses among accelerators is for those who ask for it
        try:
            there = loaded.is_available()
        except Exception as error:
            warn(
                "LY012",
                f"plug-in {plugin.name!r} ({plugin.group}) of {plugin.distribution} {plugin.version} cannot say whether its "
                f"device is there: {type(error).__name__}: {error}; it is left out",
                PluginWarning,
            )
            continue
        if there:
            yield loaded


def choose_environment(choice: Any) -> ClusterEnvironment:
    """The environment that ``choice`` stands for; ``"auto"`` takes the one of the highest priority that detects itself.

    An environment whose variables are there but inconsistent is not used, and that is said.

    Raises:
        ValueError: several of the same priority detect themselves.
    """
    if choice != "auto":
        return resolve(ClusterEnvironment, choice)
    registered = list(load_all(ClusterEnvironment))
    for plugin, loaded in registered:
        problem = loaded.problem()
        if problem:
            notify(
                "LY014", f"environment {plugin.name!r} is not used: {problem}; environment={plugin.name!r} makes this an error"
            )
    found = [(loaded.priority, plugin.name, loaded) for plugin, loaded in registered if loaded.detect()]
    best = max((priority for priority, _, _ in found), default=0)
    chosen = [(name, loaded) for priority, name, loaded in found if priority == best]
    if len(chosen) > 1:
        raise ValueError(
            f"environments {listed(name for name, _ in chosen)} all detect themselves; choose one with environment=..."
        )
    if chosen:
        environment: ClusterEnvironment = chosen[0][1]()
        return environment
    return ClusterEnvironment()


def number_of_processes(devices: Any, num_nodes: int, environment: ClusterEnvironment) -> tuple[Any, int]:
    """The Trainer's ``devices`` and ``num_nodes``, where they were left open, as whoever started the processes has them."""
    if not environment.creates_processes_externally or environment.world_size == 1:
        return devices, num_nodes
    here = environment.local_world_size
    if devices == "auto":
        devices = here
    if num_nodes == 1 and devices == here:
        num_nodes = max(environment.world_size // here, 1)
    return devices, num_nodes


def choose_strategy(choice: Any, accelerator: Accelerator, num_devices: int, num_nodes: int) -> Strategy:
    """The strategy that ``choice`` stands for; ``"auto"`` is the plain one, or with several devices the one that suits best.

    Raises:
        ValueError: ``"auto"``, several devices, and nothing installed suits.
    """
    if choice != "auto":
        return resolve(Strategy, choice)
    if num_devices == 1 and num_nodes == 1:
        return Strategy()
    rated = [
        (loaded.priority(accelerator, num_devices, num_nodes), loaded)
        for _, loaded in load_all(Strategy)
        if isinstance(loaded, type) and issubclass(loaded, Strategy)
    ]
    best, strategy = max(rated, key=lambda pair: pair[0], default=(0, Strategy))
    if best <= 0:
        raise ValueError(
            f"no installed strategy drives {num_devices} devices on {num_nodes} node(s) with accelerator {accelerator.name!r}; "
            f"pass devices=1, or install a distribution that brings one. Installed: {listed(names(Strategy))}"
        )
    chosen: Strategy = strategy()
    return chosen


def choose_loggers(choice: Any) -> list[Logger]:
    """The loggers that ``choice`` (not None and not True) stands for.

    Raises:
        TypeError: it is none of the forms a logger can be given in.
    """
    if choice is False:
        return []
    items = choice if isinstance(choice, list | tuple) else [choice]
    return [resolve(Logger, item, argument="logger") for item in items]


def choose_callbacks(choice: Any, *, argument: str = "callbacks") -> list[Any]:
    """The callbacks that ``choice`` stands for.

    Raises:
        TypeError: one of them answers no hook, or is none of the forms a callback can be given in.
        ValueError: one object is given twice.
    """
    if choice is None:
        return []
    items = list(choice) if isinstance(choice, list | tuple) else [choice]
    found: list[Any] = []
    for index, item in enumerate(items):
        where = f"{argument}[{index}]" if isinstance(choice, list | tuple) else argument
        bare, limit = _limited(item)
        callback: Any = resolve(Callback, _object(bare, where), argument=where)
        if not isinstance(callback, Callback) and not answers_hooks(callback):
            raise TypeError(
                f"{where}={quoted(item)}: expected a name, {{name: options}} or an object that answers a hook, "
                f"got {shown(callback)}"
            )
        if any(callback is other for other in found):
            raise ValueError(f"{where}: {type(callback).__qualname__} is given twice; give each callback once")
        for kind, given in limit.items():
            mark(callback, schedule(kind, given, f"{where}: {kind}"))
        found.append(callback)
    return found


def _limited(item: Any) -> tuple[Any, dict[str, Any]]:
    """Takes ``every``, ``at`` and ``when`` out of the options of ``{name: options}``: they are the bus's."""
    if not isinstance(item, Mapping) or len(item) != 1:
        return item, {}
    [(name, options)] = item.items()
    if not isinstance(options, Mapping):
        return item, {}
    limit = {kind: options[kind] for kind in ("every", "at", "when") if kind in options}
    return {name: {key: value for key, value in options.items() if key not in limit}} if limit else item, limit


def _object(item: Any, where: str) -> Any:
    # A class among callbacks is a forgotten pair of parentheses, whether or not it inherits from Callback.
    if isinstance(item, type) and not issubclass(item, Callback):
        raise TypeError(f"{where}={item.__name__} is a class; pass an object, {item.__name__}(...)")
    return item


def one_of_each(plugins: Any, kinds: Mapping[Any, str]) -> tuple[dict[str, Any], list[Any]]:
    """Sorts the Trainer's ``plugins`` by kind.

    Args:
        plugins: an object or a list of objects.
        kinds: the base classes, with the Trainer's argument that each stands for.

    Returns:
        The components by argument, and the rest, which go on the bus.

    Raises:
        ValueError: two of one kind.
        TypeError: one is neither a component nor answers a hook.
    """
    chosen: dict[str, Any] = {}
    rest: list[Any] = []
    items: Iterable[Any] = plugins if isinstance(plugins, list | tuple) else [] if plugins is None else [plugins]
    for item in items:
        kind = next((argument for base, argument in kinds.items() if isinstance(item, base)), None)
        if kind is None:
            if not answers_hooks(item) or isinstance(item, str | type):
                known = listed(base.__name__ for base in kinds)
                raise TypeError(f"plugins: expected objects of {known}, or an object that answers hooks, got {shown(item)}")
            rest.append(item)
        elif kind in chosen:
            raise ValueError(f"plugins: {type(chosen[kind]).__name__} and {type(item).__name__} are both a {kind}; pass one")
        else:
            chosen[kind] = item
    return chosen, rest
