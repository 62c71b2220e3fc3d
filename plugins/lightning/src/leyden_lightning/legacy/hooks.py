"""Hooks of older generations, bound to those of leyden when their owner is put on the bus."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leyden.binding import SPECS, named

from leyden_lightning.legacy.bases import accept_older_calls
from leyden_lightning.legacy.binding import Fill, bind, canonical, positional
from leyden_lightning.legacy.notices import definition, legacy
from leyden_lightning.legacy.outputs import Outputs
from leyden_lightning.legacy.users import own

Hook = Callable[..., Any]

# An old hook, the hooks of today at whose moment it is called, and whether it comes before the owner's own or after.
_OLD_HOOKS: dict[str, tuple[tuple[str, ...], bool]] = {
    "on_epoch_start": (("on_train_epoch_start", "on_validation_epoch_start", "on_test_epoch_start"), True),
    "on_epoch_end": (("on_train_epoch_end", "on_validation_epoch_end", "on_test_epoch_end"), False),
    "on_batch_start": (("on_train_batch_start",), True),
    "on_batch_end": (("on_train_batch_end",), False),
    "on_pretrain_routine_start": (("on_fit_start",), False),
    "on_pretrain_routine_end": (("on_fit_start",), False),
    "on_keyboard_interrupt": (("on_exception",), False),
    "on_configure_sharded_model": (("setup",), False),
    "on_before_accelerator_backend_setup": (("setup",), True),
}
_SILENT = ("on_init_start", "on_init_end", "on_hpc_save", "on_hpc_load", "on_post_move_to_device")
INSTEAD = {
    "on_epoch_start": "on_train_epoch_start, on_validation_epoch_start or on_test_epoch_start",
    "on_epoch_end": "on_train_epoch_end, on_validation_epoch_end or on_test_epoch_end",
    "on_batch_start": "on_train_batch_start",
    "on_batch_end": "on_train_batch_end",
    "on_pretrain_routine_start": "on_fit_start",
    "on_pretrain_routine_end": "on_fit_start",
    "on_keyboard_interrupt": "on_exception, which is given the KeyboardInterrupt",
    "on_configure_sharded_model": "setup",
    "on_before_accelerator_backend_setup": "setup",
}
_COLLECTS = {"on_train_epoch_end": "on_train_batch_end", "on_predict_epoch_end": "on_predict_batch_end"}


def adapted_hooks(participant: Any, role: str) -> Mapping[str, Hook | None]:
    """Functions to bind in place of a participant's methods that are of another generation; empty where there are none."""
    found: dict[str, Hook | None] = {}
    lead = ("trainer", "module") if role == "callback" else ()
    for name in SPECS:
        function = own(participant, name)
        if callable(function) and name not in ("setup", "teardown") and not _of_leyden(function):
            _adapt(participant, name, function, lead, found)
    for name, (moments, before) in _OLD_HOOKS.items():
        function = own(participant, name)
        if callable(function) and _can_be_called(function, moments, role):
            where = f"{type(participant).__qualname__}.{name}"
            legacy(where, INSTEAD[name], definition(function))
            found[name] = None
            for moment in moments:
                _join(participant, moment, _old(name, function, moment, role), lead, found, before=before)
        elif callable(function):
            found[name] = None  # a method of the user's own that has the name of an old hook
    for name in _SILENT:
        if callable(own(participant, name)):
            found[name] = None
    return {name: None if hook is None else _finished(participant, name, hook) for name, hook in found.items()}


def _can_be_called(function: Hook, moments: Sequence[str], role: str) -> bool:
    """Whether an old hook takes no more than there is at its moments."""
    required = [parameter for parameter in positional(function) if parameter.default is parameter.empty]
    return len(required) <= min(len(SPECS[moment]) for moment in moments) - (0 if role == "callback" else 2)


def _of_leyden(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).split(".")[0].startswith("leyden")


def _finished(participant: Any, name: str, hook: Hook) -> Hook:
    """The function with the parameters of the specification, and with the mark of the user's own method if that has one."""
    finished = named(hook, SPECS[name])
    mark = getattr(own(participant, name), "leyden_impl", None)
    if mark is not None:
        vars(finished)["leyden_impl"] = mark
    return finished


def _old(name: str, function: Hook, moment: str, role: str) -> Hook:
    """A function of a moment's whole specification that calls an old hook with what it takes."""
    count = len(positional(function))

    def call(*values: Any) -> Any:
        if name == "on_keyboard_interrupt" and not isinstance(values[2], KeyboardInterrupt):
            return None
        given = values if role == "callback" else values[2:]
        if name in ("on_epoch_start", "on_epoch_end") and values[0].sanity_checking:
            return None
        return function(*given[:count])

    return call


def _whole(participant: Any, name: str, lead: Sequence[str], found: Mapping[str, Hook | None]) -> Hook | None:
    """A participant's hook as a function of the whole specification, adapted if it was; None if it has none."""
    already = found.get(name)
    if already is not None:
        return already
    function = own(participant, name)
    if not callable(function):
        return None
    spec = SPECS[name]
    modern = spec if lead else tuple(argument for argument in spec if argument not in ("trainer", "module"))
    offset = len(spec) - len(modern)
    bound = bind(function, modern, {})
    if bound is None:
        count = len(positional(function))
        bound = function
        return lambda *values: function(*values[offset : offset + count])
    adapted = bound
    return lambda *values: adapted(*values[offset:])


def _join(participant: Any, name: str, other: Hook, lead: Sequence[str], found: dict[str, Hook | None], *, before: bool) -> None:
    whole = _whole(participant, name, lead, found)
    if whole is None:
        found[name] = other
        return
    first, second = (other, whole) if before else (whole, other)

    def both(*values: Any) -> Any:
        answers = first(*values), second(*values)
        return -1 if -1 in [answer for answer in answers if isinstance(answer, int)] else None

    found[name] = both


def _adapt(participant: Any, name: str, function: Hook, lead: Sequence[str], found: dict[str, Hook | None]) -> None:
    """Adds what a hook of a name of today needs if its arguments are of yesterday."""
    spec = SPECS[name]
    modern = tuple(spec) if lead else tuple(argument for argument in spec if argument not in ("trainer", "module"))
    if lead and name in ("on_save_checkpoint", "on_load_checkpoint"):
        _adapt_state(participant, name, function, found)
        return
    parameters = positional(function)
    required = [p for p in parameters if p.default is p.empty]
    names = {canonical(p.name) for p in parameters}
    if len(required) <= len(modern) and not names - set(spec) & {"unused", "optimizer_idx", "dataloader_idx"}:
        return  # of today, under whatever names
    offset = len(spec) - len(modern)
    kept = Outputs()
    old = {"on_train_epoch_end": "outputs", "on_predict_epoch_end": "results"}.get(name)
    old = old or ("optimizer_idx" if "optimizer" in spec else "dataloader_idx")
    possible: dict[str, Fill] = {
        "dataloader_idx": lambda values: 0,
        "unused": lambda values: 0,
        "optimizer_idx": _index_of_optimizer(participant, modern, bool(lead)),
        "outputs": lambda values: kept.take(),
        "results": lambda values: kept.take(nested=True),
    }
    fills = {key: possible[key] for key in ("unused", old) if key not in modern}
    adapted = bind(function, modern, fills, (*modern, old))
    if adapted is None:
        return
    shown = ", ".join(("self", *modern))
    legacy(
        f"{type(participant).__qualname__}.{name}({', '.join(p.name for p in parameters)})",
        f"{name}({shown})",
        definition(function),
    )
    accept_older_calls(participant, name, modern, (*modern, old))
    collects = _COLLECTS.get(name)
    if collects is not None:
        _join(participant, collects, _collector(kept, collects), lead, found, before=True)
    call = adapted
    found[name] = lambda *values: call(*values[offset:])


def _collector(kept: Outputs, name: str) -> Hook:
    def collect(trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        if batch_idx == 0 and dataloader_idx == 0:
            kept.clear()
        kept.add(outputs, dataloader_idx)

    return collect


def _index_of_optimizer(participant: Any, modern: Sequence[str], is_callback: bool) -> Fill:
    if "optimizer" not in modern:
        return lambda values: 0
    where = list(modern).index("optimizer")

    def index(values: Sequence[Any]) -> int:
        trainer = values[0] if is_callback else participant.trainer
        return next((i for i, other in enumerate(trainer.optimizers) if other is values[where]), 0)

    return index


def _adapt_state(participant: Any, name: str, function: Hook, found: dict[str, Hook | None]) -> None:
    """State hooks of callbacks: 1.x kept what ``on_save_checkpoint`` returned, and handed it to ``on_load_checkpoint``."""
    parameters = positional(function)
    names = [canonical(p.name) for p in parameters]
    key = getattr(participant, "state_key", None) or type(participant).__qualname__
    if name == "on_save_checkpoint":
        takes_rest = any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values())
        by_name = bool(names) and set(names) <= {"trainer", "module", "checkpoint"} and not takes_rest

        def save(trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
            everything = {"trainer": trainer, "module": module, "checkpoint": checkpoint}
            if by_name:
                state = function(*(everything[name] for name in names))
            else:
                state = function(*list(everything.values())[: None if takes_rest else len(parameters)])
            if isinstance(state, dict) and state and "callbacks" in checkpoint:
                legacy(
                    f"what {type(participant).__qualname__}.on_save_checkpoint returns",
                    "state_dict(self), which returns the state",
                    definition(function),
                )
                checkpoint["callbacks"][key] = state

        found[name] = save
    elif (len(parameters) == 1 and names != ["checkpoint"]) or "callback_state" in names:
        legacy(
            f"{type(participant).__qualname__}.on_load_checkpoint({', '.join(p.name for p in parameters)})",
            "load_state_dict(self, state_dict)",
            definition(function),
        )

        def load(trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
            state = checkpoint.get("callbacks", {}).get(key)
            if state is not None:
                function(*((state,) if len(parameters) == 1 else (trainer, module, state)))

        found[name] = load
