"""Finds the hook implementations of an object, and binds each to the arguments it takes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from operator import itemgetter
from typing import Any, TypeAlias, cast

from leyden.hookspecs import Hooks
from leyden.messages import LeydenWarning, listed, nearest, warn

Hook: TypeAlias = Callable[..., Any]

SPECS: dict[str, tuple[str, ...]] = {
    name: function.__code__.co_varnames[1 : function.__code__.co_argcount]  # inspect.signature takes 50 times as long
    for name, function in vars(Hooks).items()
    if hasattr(function, "leyden_spec")
}
_CONSTRUCTION = ("translate_arguments", "default_logger", "default_callbacks", "adapt_hooks", "adapt_methods")

METHODS = ("training_step", "validation_step", "test_step", "predict_step", "configure_optimizers", "configure_callbacks",
           "configure_model", "configure_gradient_clipping", "train_dataloader", "val_dataloader", "test_dataloader",
           "predict_dataloader", "prepare_data", "optimizer_step", "optimizer_zero_grad", "lr_scheduler_step", "backward",
           "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer",
           *(f"on_{stage}_model_{mode}" for stage in ("validation", "test", "predict") for mode in ("eval", "train")),
           "on_validation_model_zero_grad", "state_dict", "load_state_dict")  # fmt: skip
"""What core calls on a module or a data module beside hooks."""


FORMER: dict[str, str] = {
    "training_epoch_end": "write on_train_epoch_end, and keep what it needs of each batch in training_step",
    "validation_epoch_end": "write on_validation_epoch_end, and keep what it needs of each batch in validation_step",
    "test_epoch_end": "write on_test_epoch_end, and keep what it needs of each batch in test_step",
    "training_step_end": "do what it does at the end of training_step",
    "validation_step_end": "do what it does at the end of validation_step",
    "test_step_end": "do what it does at the end of test_step",
    "tbptt_split_batch": "loop over the parts of a batch in training_step, in manual optimization",
    "get_progress_bar_dict": "write self.log(..., prog_bar=True)",
    "configure_sharded_model": "write configure_model",
}
"""Methods of modules that earlier generations of Lightning called, and what to write instead."""


def hook_names() -> tuple[str, ...]:
    """The names of all hooks, in the order of :class:`leyden.hookspecs.Hooks`."""
    return tuple(SPECS)


def spec_text(name: str, *, short: bool = False, method: bool = True) -> str:
    """A hook's signature as a user would write it; ``short`` leaves out what a module's methods leave out."""
    arguments = SPECS[name]
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


def implementations(participant: Participant, adapted: Mapping[str, Hook | None] | None = None) -> Iterator[Implementation]:
    """The hook implementations of a participant, bound.

    Args:
        participant: whose.
        adapted: functions to bind in place of its methods, by hook; None for methods to leave alone.

    Raises:
        HookError: one cannot be bound, or a name is misspelt.
    """
    plugin, adapted = participant.plugin, adapted or {}
    for attribute in dict.fromkeys([*_candidates(plugin), *adapted]):
        function = adapted[attribute] if attribute in adapted else _function(plugin, attribute)
        options = getattr(function, "leyden_impl", None)
        if options is None and (participant.needs_mark or not _looks_like_hook(attribute)):
            continue
        if not callable(function) or hasattr(function, "leyden_spec"):
            continue  # a property, a child module, or the base class's method that nobody overrode
        hook = (options or {}).get("specname") or attribute
        if hook not in SPECS:
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
        bound = adapted.get(attribute) or getattr(plugin, attribute)
        yield Implementation(hook, _bind(participant, hook, attribute, bound, options or {}), dict(options or {}))


def misspelt_methods(obj: object, base: type, called: Container[str] = ()) -> Iterator[str]:
    """A sentence for each method of a user's module or data module that is almost one that core calls, and so never called.

    Args:
        obj: a module or a data module.
        base: the class of leyden that it derives from.
        called: names of methods that somebody else calls.
    """
    for name in dir(type(obj)):
        if name in called:
            continue
        if name in FORMER and inspect.isfunction(getattr(type(obj), name)):
            yield f"{type(obj).__qualname__}.{name} is never called by leyden; {FORMER[name]}"
            continue
        if name.startswith("_") or hasattr(base, name) or name in SPECS or not inspect.isfunction(getattr(type(obj), name)):
            continue
        match = nearest(name, [method for method in METHODS if hasattr(base, method)], cutoff=0.9)
        if match and getattr(type(obj), match, None) is getattr(base, match):
            yield f"{type(obj).__qualname__}.{name} is never called by leyden; did you mean {match!r}?"


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
    return name in SPECS or name.startswith("on_")


def _owner_of(participant: Participant) -> str:
    return participant.name if participant.role == "plugin" else type(participant.plugin).__qualname__


def _refuse_misspelt(participant: Participant, attribute: str, hook: str, *, marked: bool) -> None:
    who = f"{_owner_of(participant)}.{attribute}"
    choices = [*SPECS, *(name for name in _methods_of(participant) if name.startswith("on_"))]
    match = None if hook in METHODS else nearest(hook, choices, cutoff=0.8)
    if match or marked:
        hint = f"did you mean {match!r}?" if match else "hooks are listed by: python -m leyden.hookspecs"
        raise HookError(f"{who} answers no hook: there is none named {hook!r}; {hint}")
    if hook in METHODS:
        raise HookError(
            f"{who} is never called: {hook} is a method of modules and data modules, not a hook of a {participant.role}"
        )
    warn(
        "LY001",
        f"{who} looks like a hook but leyden never calls it: there is no hook {hook!r}; "
        f"a name that does not start with 'on_' silences this",
    )


def _bind(participant: Participant, hook: str, attribute: str, function: Hook, options: dict[str, Any]) -> Hook:
    spec = SPECS[hook]
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


def named(function: Hook, arguments: tuple[str, ...], *, wrapper: bool = False) -> Hook:
    """A function whose parameters have these names, for pluggy, which reads the names in a function's code."""
    names = ", ".join(arguments)
    call = f"(yield from function({names}))" if wrapper else f"function({names})"
    namespace: dict[str, Any] = {"function": function}
    exec(compile(f"def hook({names}):\n    return {call}\n", "<leyden.bus>", "exec"), namespace)
    return cast("Hook", namespace["hook"])
