"""One pluggy manager per run, and the call lists compiled from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import pluggy

from leyden.binding import (
    SPECS,
    Hook,
    Implementation,
    Participant,
    implementations,
    named,
)
from leyden.hookspecs import Hooks
from leyden.limits import Limit, limits_of
from leyden.messages import add_note
from leyden.profiler import Profiler


class Calls:
    """The hooks of a training or evaluation step, as tuples of functions to be called with the whole specification.

    The loop runs ``for hook in calls.on_train_batch_end: hook(trainer, module, ...)``; a hook that nobody implements is
    an empty tuple. pluggy's own call costs 2 to 10 microseconds, there are some 25 hooks in a step.
    """

    on_train_batch_start: tuple[Hook, ...] = ()
    on_before_zero_grad: tuple[Hook, ...] = ()
    on_before_backward: tuple[Hook, ...] = ()
    on_after_backward: tuple[Hook, ...] = ()
    on_before_optimizer_step: tuple[Hook, ...] = ()
    on_train_batch_end: tuple[Hook, ...] = ()
    on_validation_batch_start: tuple[Hook, ...] = ()
    on_validation_batch_end: tuple[Hook, ...] = ()
    on_test_batch_start: tuple[Hook, ...] = ()
    on_test_batch_end: tuple[Hook, ...] = ()
    on_predict_batch_start: tuple[Hook, ...] = ()
    on_predict_batch_end: tuple[Hook, ...] = ()

    def __init__(self) -> None:
        self.inside_step = False
        """Whether there is any hook between ``training_step`` and ``optimizer.step()``: one question in place of four."""


_HOT = tuple(Calls.__annotations__)


class _Registered:
    """What pluggy sees of a participant: functions of the specified arguments, and their options."""

    def __init__(self, owner: str, implementations: Iterable[Implementation]) -> None:
        self.owner = owner
        self.options: dict[str, dict[str, Any]] = {}
        for implementation in implementations:
            spec = SPECS[implementation.hook]
            setattr(self, implementation.hook, named(implementation.call, spec, wrapper=implementation.is_wrapper))
            self.options[implementation.hook] = implementation.options


class _Specs:
    """What pluggy sees of the specifications: every argument is required, for pluggy knows no optional ones."""

    def __init__(self) -> None:
        for name, arguments in SPECS.items():
            spec = named(lambda *_: None, arguments)
            vars(spec)["leyden_spec"] = vars(Hooks)[name].leyden_spec  # what pluggy's marker sets
            setattr(self, name, spec)


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        return plugin.options.get(name) if isinstance(plugin, _Registered) else super().parse_hookimpl_opts(plugin, name)


Guard: TypeAlias = Callable[[Participant, str, Hook], Hook]


def _unguarded(participant: Participant, hook: str, function: Hook) -> Hook:
    return function


class Bus:
    """The hooks of one run: who answers them, in which order."""

    def __init__(self, profiler: Profiler | None = None) -> None:
        self.manager: pluggy.PluginManager = _Manager("leyden")
        self.manager.add_hookspecs(cast("Any", _Specs()))
        self.hook: Hooks = cast("Hooks", self.manager.hook)
        """pluggy's callers, with the specifications' types: ``bus.hook.on_fit_start(trainer=..., module=...)``."""
        self.calls = Calls()
        self._postpones = False
        self._profiler = profiler or Profiler()
        self.guard: Guard = _unguarded
        """Asked at registration for the function to call in place of each implementation."""
        self._participants: list[Participant] = []
        self._implementations: dict[int, list[Implementation]] = {}
        self._limits: dict[int, list[Limit]] = {}
        self._direct: dict[Hook, Hook] = {}  # from the function that pluggy has to the one without pluggy's signature

    def use_profiler(self, profiler: Profiler) -> None:
        """Has ``profiler`` wrap every implementation, of those on the bus already too."""
        self._profiler = profiler
        for participant in self.participants:
            if isinstance(participant.plugin, Limit):
                continue  # it comes and goes with whom it limits
            self.unregister(participant.plugin)
            self.register(participant.plugin, name=participant.name, role=participant.role)

    # ---- who takes part ----

    @property
    def participants(self) -> tuple[Participant, ...]:
        """Everybody on the bus, in the order in which they are called."""
        return tuple(self._participants)

    def register(self, plugin: Any, *, name: str | None = None, role: str = "plugin", before: Any = None) -> None:
        """Puts ``plugin`` on the bus, after everybody of its role and those before, also in the middle of a run.

        Args:
            plugin: an object or a Python module whose functions answer hooks.
            name: what messages call it; its class's name if not given.
            role: ``"plugin"``, ``"datamodule"``, ``"callback"``, ``"module"`` or ``"component"``; hooks are called in that order.
            before: a participant to be called after the new one, in place of the order by role.

        Raises:
            HookError: one of its methods cannot be bound to its hook, or is misspelt.
            ValueError: it is on the bus already.
        """
        if any(participant.plugin is plugin for participant in self._participants):
            raise ValueError(f"{_describe(plugin)} is on the bus already; one object can be registered once")
        participant = Participant(plugin, name or _describe(plugin), role)
        found = list(implementations(participant, self._adapted(plugin, role)))
        functions = {implementation.hook: implementation.call for implementation in found}
        self._wrap(participant, found)
        limits = limits_of(participant, found, functions)
        order = ("plugin", "datamodule", "callback", "module", "component")
        index = len(self._participants)
        if before is not None:
            index = next((i for i, other in enumerate(self._participants) if other.plugin is before), -1)
            if index < 0:
                raise ValueError(f"before={_describe(before)}: it is not on the bus")
        else:
            while index and order.index(self._participants[index - 1].role) > order.index(role):
                index -= 1
        self._participants.insert(index, participant)
        self._implementations[id(plugin)] = found
        self._rebuild()
        self._limits[id(plugin)] = limits
        for limit in limits:
            self.register(limit, name=limit.name, before=self._participants[0].plugin)

    def _adapted(self, plugin: Any, role: str) -> dict[str, Any]:
        """What plug-ins have bound in place of ``plugin``'s own methods."""
        found: dict[str, Any] = {}
        if role in ("callback", "datamodule", "module"):
            answers: Any = self.hook.adapt_hooks(participant=plugin, role=role)  # a list: pluggy asks every plug-in
            for answer in answers:
                found.update(answer)
        return found

    def _wrap(self, participant: Participant, found: Iterable[Implementation]) -> None:
        if participant.plugin is self._profiler:
            return
        for implementation in found:
            if not implementation.is_wrapper:
                implementation.call = self.guard(participant, implementation.hook, implementation.call)
                action = f"[{participant.role.capitalize()}]{participant.name}.{implementation.hook}"
                implementation.call = self._profiler.wrap(implementation.call, action)

    def unregister(self, plugin: Any) -> None:
        """Takes ``plugin`` off the bus; one that is not on it is no error."""
        for limit in self._limits.pop(id(plugin), ()):
            self.unregister(limit)
        self._participants = [participant for participant in self._participants if participant.plugin is not plugin]
        if self._implementations.pop(id(plugin), None) is not None:
            self._rebuild()

    def implementations_of(self, plugin: Any) -> list[str]:
        """The hooks that ``plugin`` answers."""
        return [implementation.hook for implementation in self._implementations.get(id(plugin), [])]

    # ---- calls ----

    def call_one(self, plugin: Any, name: str, *arguments: Any) -> None:
        """Calls one participant's implementation of a hook, if it has one; arguments are the whole specification."""
        for implementation in self._implementations.get(id(plugin), []):
            if implementation.hook == name:
                result = implementation.call(*arguments)
                if implementation.is_wrapper:
                    for _ in result:  # there is nobody else to wrap
                        pass

    def guarded(self, name: str, *arguments: Any, errors: BaseException | None = None) -> BaseException | None:
        """Calls a hook for everybody, whatever each of them raises.

        Args:
            name: the hook.
            arguments: the whole specification, by position.
            errors: an exception on its way out, which later errors are attached to as notes.

        Returns:
            ``errors``, or the first error if there was none before.
        """
        caller = getattr(self.manager.hook, name)
        hookimpls = caller.get_hookimpls()
        plain = [(found.function, _owner(found)) for found in reversed(hookimpls) if not _wraps(found)]
        wrappers = [found for found in hookimpls if _wraps(found)]

        def guard(hook: Hook, who: str, values: tuple[Any, ...]) -> None:
            nonlocal errors
            traceback = errors.__traceback__ if errors is not None else None
            try:
                hook(*values)
            except BaseException as error:
                if errors is None:
                    errors = error
                elif error is errors:
                    error.__traceback__ = traceback  # raised once more as it is: the frames it has are the user's
                else:
                    add_note(errors, f"afterwards, {name} of {who} raised {type(error).__name__}: {error}")

        def everyone(*values: Any) -> None:
            while plain:
                guard(*plain.pop(0), values)

        if wrappers:
            guard(_wrapped(name, everyone, wrappers), " and ".join(_owner(found) for found in reversed(wrappers)), arguments)
        everyone(*arguments)  # also when a wrapper failed before it let anybody through
        return errors

    # ---- compiling ----

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, whoever comes or goes is called from the end of the block on: the lists are compiled once for all of them."""
        self._postpones = True
        try:
            yield
        finally:
            self._postpones = False
            self._rebuild()

    def _rebuild(self) -> None:
        if self._postpones:
            return
        for registered in list(self.manager.get_plugins()):
            self.manager.unregister(registered)
        self._direct.clear()
        # pluggy calls the latest registration first, but the latest trylast last: two passes keep everybody's order.
        for participant in reversed(self._participants):
            self._register(participant, trylast=False)
        for participant in self._participants:
            self._register(participant, trylast=True)
        for name in _HOT:
            caller = getattr(self.manager.hook, name)
            found = list(reversed(caller.get_hookimpls()))
            if any(_wraps(hookimpl) for hookimpl in found):
                compiled: tuple[Hook, ...] = (_through_pluggy(caller, SPECS[name]),)
            else:
                compiled = tuple(self._direct[hookimpl.function] for hookimpl in found)
            setattr(self.calls, name, compiled)
        calls = self.calls
        calls.inside_step = bool(
            calls.on_before_zero_grad or calls.on_before_backward or calls.on_after_backward or calls.on_before_optimizer_step
        )

    def _register(self, participant: Participant, *, trylast: bool) -> None:
        chosen = [
            implementation
            for implementation in self._implementations[id(participant.plugin)]
            if bool(implementation.options.get("trylast")) is trylast
        ]
        if not chosen:
            return
        suffix = " (last)" if trylast else ""
        number = next(i for i, other in enumerate(self._participants) if other.plugin is participant.plugin)
        registered = _Registered(participant.name, chosen)
        self.manager.register(registered, name=f"{participant.name}#{number}{suffix}")
        for implementation in chosen:
            self._direct[getattr(registered, implementation.hook)] = implementation.call


def _wraps(hookimpl: pluggy.HookImpl) -> bool:
    return hookimpl.wrapper or hookimpl.hookwrapper


def _owner(hookimpl: pluggy.HookImpl) -> str:
    return cast("_Registered", hookimpl.plugin).owner


def _through_pluggy(caller: Any, arguments: Sequence[str]) -> Hook:
    def call(*values: Any) -> Any:
        result = caller(**dict(zip(arguments, values, strict=True)))
        if not isinstance(result, list):
            return result  # a wrapper's own answer
        return -1 if any(value == -1 for value in result) else None  # the one answer that means something to a loop

    return call


def _wrapped(name: str, function: Hook, wrappers: Sequence[pluggy.HookImpl]) -> Hook:
    """``function`` with the wrappers of a hook around it."""
    manager = _Manager("leyden")
    manager.add_hookspecs(cast("Any", _Specs()))
    manager.register(_Registered(name, [Implementation(name, function)]))
    for found in wrappers:
        options = {"wrapper": found.wrapper, "hookwrapper": found.hookwrapper}
        manager.register(_Registered(_owner(found), [Implementation(name, found.function, options)]))
    return _through_pluggy(getattr(manager.hook, name), SPECS[name])


def _describe(plugin: Any) -> str:
    if inspect.ismodule(plugin) or isinstance(plugin, type):
        return plugin.__name__
    return type(plugin).__qualname__
