"""One pluggy manager per run, and the call lists compiled from it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from operator import itemgetter
from typing import Any, cast

import pluggy

from leyden.hookspecs import Hooks
from leyden.messages import LeydenWarning, add_note, listed, nearest
from leyden.profiler import Profiler

Hook = Callable[..., Any]

_SPECS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(function).parameters)[1:]
    for name, function in vars(Hooks).items()
    if hasattr(function, "leyden_spec")
}
_CONSTRUCTION = ("translate_arguments", "default_logger", "default_callbacks")

METHODS = ("training_step", "validation_step", "test_step", "predict_step", "configure_optimizers", "configure_callbacks",
           "configure_model", "configure_gradient_clipping", "train_dataloader", "val_dataloader", "test_dataloader",
           "predict_dataloader", "prepare_data", "optimizer_step", "optimizer_zero_grad", "lr_scheduler_step", "backward",
           "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer",
           *(f"on_{stage}_model_{mode}" for stage in ("validation", "test", "predict") for mode in ("eval", "train")),
           "on_validation_model_zero_grad", "state_dict", "load_state_dict")  # fmt: skip
"""What core calls on a module or a data module beside hooks."""


def hook_names() -> tuple[str, ...]:
    """The names of all hooks, in the order of :class:`leyden.hookspecs.Hooks`."""
    return tuple(_SPECS)


def spec_text(name: str, *, short: bool = False, method: bool = True) -> str:
    """A hook's signature as a user would write it; ``short`` leaves out what a module's methods leave out."""
    arguments = _SPECS[name]
    if short:
        arguments = tuple(argument for argument in arguments if argument not in ("trainer", "module"))
    return f"{name}({', '.join(('self', *arguments) if method else arguments)})"


class HookError(TypeError):
    """A hook implementation cannot be called as its specification says, or answers no hook that exists."""


@dataclass(frozen=True)
class Participant:
    """Somebody on the bus."""

    plugin: Any
    name: str
    role: str  # "plugin", "datamodule", "callback", "module", "component"

    @property
    def needs_mark(self) -> bool:
        """Whether only methods marked ``@hookimpl`` are implementations."""
        return self.role == "component"


@dataclass
class Implementation:
    """One hook implementation: ``call`` takes the whole specification by position, under whatever names."""

    hook: str
    call: Hook
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_wrapper(self) -> bool:
        return bool(self.options.get("wrapper") or self.options.get("hookwrapper"))


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


_HOT = tuple(Calls.__annotations__)


class _Registered:
    """What pluggy sees of a participant: functions of the specified arguments, and their options."""

    def __init__(self, owner: str, implementations: Iterable[Implementation]) -> None:
        self.owner = owner
        self.options: dict[str, dict[str, Any]] = {}
        for implementation in implementations:
            spec = _SPECS[implementation.hook]
            setattr(self, implementation.hook, _named(implementation.call, spec, wrapper=implementation.is_wrapper))
            self.options[implementation.hook] = implementation.options


class _Specs:
    """What pluggy sees of the specifications: every argument is required, for pluggy knows no optional ones."""

    def __init__(self) -> None:
        for name, arguments in _SPECS.items():
            spec = _named(lambda *_: None, arguments)
            vars(spec)["leyden_spec"] = vars(Hooks)[name].leyden_spec  # what pluggy's marker sets
            setattr(self, name, spec)


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        return plugin.options.get(name) if isinstance(plugin, _Registered) else super().parse_hookimpl_opts(plugin, name)


class Bus:
    """The hooks of one run: who answers them, in which order."""

    def __init__(self, profiler: Profiler | None = None) -> None:
        self.manager: pluggy.PluginManager = _Manager("leyden")
        self.manager.add_hookspecs(cast("Any", _Specs()))
        self.hook: Hooks = cast("Hooks", self.manager.hook)
        """pluggy's callers, with the specifications' types: ``bus.hook.on_fit_start(trainer=..., module=...)``."""
        self.calls = Calls()
        self._profiler = profiler or Profiler()
        self._participants: list[Participant] = []
        self._implementations: dict[int, list[Implementation]] = {}
        self._direct: dict[Hook, Hook] = {}  # from the function that pluggy has to the one without pluggy's signature

    def use_profiler(self, profiler: Profiler) -> None:
        """Has ``profiler`` wrap the implementations registered from now on."""
        self._profiler = profiler

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
        found = list(implementations(participant))
        for implementation in found:
            if not implementation.is_wrapper:
                action = f"[{role.capitalize()}]{participant.name}.{implementation.hook}"
                implementation.call = self._profiler.wrap(implementation.call, action)
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

    def unregister(self, plugin: Any) -> None:
        """Takes ``plugin`` off the bus; one that is not on it is no error."""
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

    def _rebuild(self) -> None:
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
                compiled: tuple[Hook, ...] = (_through_pluggy(caller, _SPECS[name]),)
            else:
                compiled = tuple(self._direct[hookimpl.function] for hookimpl in found)
            setattr(self.calls, name, compiled)

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
    return _through_pluggy(getattr(manager.hook, name), _SPECS[name])


def _describe(plugin: Any) -> str:
    if inspect.ismodule(plugin) or isinstance(plugin, type):
        return plugin.__name__
    return type(plugin).__qualname__


# ---- finding and binding implementations ----


def implementations(participant: Participant) -> Iterator[Implementation]:
    """The hook implementations of a participant, bound.

    Raises:
        HookError: one cannot be bound, or a name is misspelt.
    """
    plugin = participant.plugin
    for attribute in _candidates(plugin):
        function = _function(plugin, attribute)
        options = getattr(function, "leyden_impl", None)
        if options is None and (participant.needs_mark or not _looks_like_hook(attribute)):
            continue
        if not callable(function) or hasattr(function, "leyden_spec"):
            continue  # a property, a child module, or the base class's method that nobody overrode
        hook = (options or {}).get("specname") or attribute
        if hook not in _SPECS:
            if options is None and hook in _methods_of(participant):
                continue
            if options is not None and options.get("optionalhook"):
                continue  # of another version of leyden
            _refuse_misspelt(participant, attribute, hook, marked=options is not None)
            continue
        if hook in _CONSTRUCTION and participant.role != "plugin":
            raise HookError(
                f"{participant.name}.{attribute} is never called: the Trainer asks {hook} while it is built, before "
                f"{participant.role}s take part; answer it in a plug-in of the entry-point group 'leyden'"
            )
        bound = getattr(plugin, attribute)
        yield Implementation(hook, _bind(participant, hook, attribute, bound, options or {}), dict(options or {}))


def check_implementations(plugin: Any, name: str) -> list[str]:
    """The hooks that ``plugin`` would answer if it were registered as a plug-in of that name.

    Raises:
        HookError: one cannot be bound, or a name is misspelt.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeydenWarning)  # registering it says the same
        return [implementation.hook for implementation in implementations(Participant(plugin, name, "plugin"))]


def answers_hooks(plugin: Any) -> bool:
    """Whether any of an object's attributes answers a hook, is marked as one, or looks like one, misspelt."""
    for attribute in _candidates(plugin):
        function = _function(plugin, attribute)
        if not callable(function) or hasattr(function, "leyden_spec"):
            continue
        if hasattr(function, "leyden_impl") or (_looks_like_hook(attribute) and attribute not in METHODS):
            return True
    return False


def _function(plugin: Any, attribute: str) -> Any:
    static = inspect.getattr_static(plugin, attribute, None)  # a property stays one
    return static.__func__ if isinstance(static, staticmethod | classmethod) else static


def _methods_of(participant: Participant) -> tuple[str, ...]:
    return METHODS if participant.role in ("module", "datamodule") else ()


def _candidates(plugin: Any) -> Iterator[str]:
    return (name for name in dir(plugin) if not name.startswith("__"))


def _looks_like_hook(name: str) -> bool:
    return name in _SPECS or name.startswith("on_")


def _owner_of(participant: Participant) -> str:
    return participant.name if participant.role == "plugin" else type(participant.plugin).__qualname__


def _refuse_misspelt(participant: Participant, attribute: str, hook: str, *, marked: bool) -> None:
    who = f"{_owner_of(participant)}.{attribute}"
    choices = [*_SPECS, *(name for name in _methods_of(participant) if name.startswith("on_"))]
    match = None if hook in METHODS else nearest(hook, choices, cutoff=0.8)
    if match or marked:
        hint = f"did you mean {match!r}?" if match else "hooks are listed by: python -m leyden.hookspecs"
        raise HookError(f"{who} answers no hook: there is none named {hook!r}; {hint}")
    if hook in METHODS:
        raise HookError(
            f"{who} is never called: {hook} is a method of modules and data modules, not a hook of a {participant.role}"
        )
    warnings.warn(
        f"{who} looks like a hook but leyden never calls it: there is no hook {hook!r}; "
        f"a name that does not start with 'on_' silences this",
        LeydenWarning,
        stacklevel=2,
    )


def _bind(participant: Participant, hook: str, attribute: str, function: Hook, options: dict[str, Any]) -> Hook:
    spec = _SPECS[hook]
    picked = _pick(function, spec, short_first=participant.role in ("module", "datamodule"))
    if picked is None:
        method = inspect.ismethod(function)
        written = inspect.signature(getattr(function, "__func__", function))  # a method's with self
        fitting = spec_text(hook, short=participant.role in ("module", "datamodule"), method=method)
        raise HookError(
            f"{_owner_of(participant)}.{attribute}{written} does not fit its hook: write {fitting}, "
            f"or any subset of {listed(spec)} by name"
        )
    return _select(function, spec, picked, wrapper=bool(options.get("wrapper") or options.get("hookwrapper")))


def _pick(function: Hook, spec: tuple[str, ...], *, short_first: bool) -> tuple[str, ...] | None:
    """Which of the specification's arguments to pass, in the order in which the function takes them; None if it cannot."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_rest = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return None
    if not takes_rest and all(p.name in spec or p.default is not p.empty for p in positional):
        known = []
        for parameter in positional:
            if parameter.name not in spec:
                break  # an option of the user's own, at its default; what follows it cannot be passed by position
            known.append(parameter.name)
        return tuple(known)
    short = tuple(name for name in spec if name not in ("trainer", "module"))
    without_tail = tuple(name for name in spec if name != "dataloader_idx")
    shapes = [spec, without_tail]
    shorts = [short, tuple(name for name in short if name != "dataloader_idx")]
    for shape in [*shorts, *shapes] if short_first else shapes:
        required = sum(p.default is p.empty for p in positional)
        # A name of the specification in another one's place would be given the wrong value.
        if any(p.name in spec and p.name != name for p, name in zip(positional, shape, strict=False)):
            continue
        if required <= len(shape) and (takes_rest or len(shape) <= len(positional)):
            return shape
    return None


def _select(function: Hook, spec: tuple[str, ...], picked: tuple[str, ...], *, wrapper: bool) -> Hook:
    """A function of the whole specification that passes on what was picked; ``function`` itself if that is everything."""
    if picked == spec:
        return function
    indices = [spec.index(name) for name in picked]
    start, stop = (indices[0], indices[-1] + 1) if indices else (0, 0)
    select: Callable[[tuple[Any, ...]], Sequence[Any]]
    if indices == list(range(start, stop)):
        part = slice(start, stop)
        select = itemgetter(part)
    else:
        select = itemgetter(*indices)  # at least two: a single one is a slice

    if wrapper:

        @wraps(function)
        def call(*values: Any) -> Any:
            return (yield from function(*select(values)))

    else:

        @wraps(function)
        def call(*values: Any) -> Any:
            return function(*select(values))

    return call


def _named(function: Hook, arguments: tuple[str, ...], *, wrapper: bool = False) -> Hook:
    """A function whose parameters have these names, for pluggy, which reads the names in a function's code."""
    names = ", ".join(arguments)
    call = f"(yield from function({names}))" if wrapper else f"function({names})"
    namespace: dict[str, Any] = {"function": function}
    exec(compile(f"def hook({names}):\n    return {call}\n", "<leyden.bus>", "exec"), namespace)
    return cast("Hook", namespace["hook"])
