"""Methods of older generations on modules and data modules, put in place at the start of a run where there are any."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import leyden
from torch.optim import LBFGS, Optimizer

from leyden_lightning.legacy.bases import accept_older_calls
from leyden_lightning.legacy.binding import Fill, bind, canonical, positional, takes_any
from leyden_lightning.legacy.dicts import log_returned
from leyden_lightning.legacy.none_steps import counted
from leyden_lightning.legacy.notices import definition, legacy
from leyden_lightning.legacy.outputs import EpochEnds
from leyden_lightning.legacy.parts import gathered
from leyden_lightning.legacy.running_loss import RunningLoss, show_running_loss
from leyden_lightning.legacy.tbptt import TimeSteps
from leyden_lightning.legacy.users import mentions, own, says

Method = Callable[..., Any]

_EPOCH_ENDS = {"training": "on_train_epoch_end", "validation": "on_validation_epoch_end", "test": "on_test_epoch_end"}
_MODERN = {
    "optimizer_step": ("epoch", "batch_idx", "optimizer", "optimizer_closure"),
    "optimizer_zero_grad": ("epoch", "batch_idx", "optimizer"),
    "configure_gradient_clipping": ("optimizer", "gradient_clip_val", "gradient_clip_algorithm"),
    "lr_scheduler_step": ("scheduler", "metric"),
    "backward": ("loss",),
    "transfer_batch_to_device": ("batch", "device", "dataloader_idx"),
    "on_before_batch_transfer": ("batch", "dataloader_idx"),
    "on_after_batch_transfer": ("batch", "dataloader_idx"),
}
_OLD = {
    "optimizer_step": (
        "epoch", "batch_idx", "optimizer", "optimizer_idx", "optimizer_closure", "on_tpu", "using_native_amp", "using_lbfgs",
    ),
    "optimizer_zero_grad": ("epoch", "batch_idx", "optimizer", "optimizer_idx"),
    "configure_gradient_clipping": ("optimizer", "optimizer_idx", "gradient_clip_val", "gradient_clip_algorithm"),
    "lr_scheduler_step": ("scheduler", "optimizer_idx", "metric"),
    "backward": ("loss", "optimizer", "optimizer_idx"),
    "transfer_batch_to_device": ("batch", "device"),
}  # fmt: skip


def adapted_methods(trainer: leyden.Trainer, owner: Any) -> Mapping[str, Any]:
    """What to put in place of an owner's own methods while it runs; empty for one of today."""
    for participant in list(trainer.bus.participants):  # of a run that failed before it began
        if isinstance(participant.plugin, EpochEnds | TimeSteps | RunningLoss) and isinstance(owner, leyden.Module):
            trainer.bus.unregister(participant.plugin)
    found: dict[str, Any] = {}
    per_node = getattr(trainer, "prepare_data_per_node", None)
    if per_node is not None:
        found["prepare_data_per_node"] = per_node
    for name, modern in _MODERN.items():
        method = own(owner, name)
        if callable(method):
            adapted = _rebound(trainer, owner, name, method, modern)
            if adapted is not None:
                found[name] = adapted
    if isinstance(owner, leyden.Module):
        found.update(_of_module(trainer, owner))
    return found


def _rebound(trainer: leyden.Trainer, owner: Any, name: str, method: Method, modern: tuple[str, ...]) -> Method | None:
    """A method as leyden calls it; None if it takes that as it is."""
    parameters = positional(method)
    names = [canonical(p.name) for p in parameters]
    required = sum(p.default is p.empty for p in parameters)
    optimizer_at = modern.index("optimizer") if "optimizer" in modern else None
    fills: dict[str, Fill] = {
        "optimizer_idx": lambda values: _turn(trainer) if optimizer_at is None else _index(trainer, values[optimizer_at]),
        "optimizer": lambda values: trainer.optimizers[_turn(trainer)],
        "on_tpu": lambda values: False,
        "using_native_amp": lambda values: "16" in str(trainer.choices.get("precision")),
        "using_lbfgs": lambda values: isinstance(values[2], LBFGS),
        "trainer": lambda values: trainer,
    }
    fills = {key: fill for key, fill in fills.items() if key not in modern}
    adapted: Method | None = None
    if takes_any(method) and required <= len(modern):
        return None
    renamed = tuple(names[: len(modern)]) != modern and (len(parameters) > len(modern) or not set(names).isdisjoint(modern))
    if name.endswith(("batch_transfer", "to_device")) and len(parameters) == len(modern) - 1:
        adapted = _without_last(method)  # before 1.4 there was no dataloader_idx
    elif renamed or required > len(modern):
        adapted = bind(method, modern, fills, _OLD.get(name, ()))
    if adapted is None:
        return None
    accept_older_calls(owner, name, modern, _OLD.get(name, modern))
    shown = f"{name}({', '.join(('self', *modern))})"
    legacy(f"{type(owner).__qualname__}.{name}({', '.join(p.name for p in parameters)})", shown, definition(method))
    return adapted


def _without_last(method: Method) -> Method:
    return lambda *values: method(*values[:-1])


def _turn(trainer: leyden.Trainer) -> int:
    """The optimizer whose turn it is."""
    return getattr(trainer, "turn", 0)


def _index(trainer: leyden.Trainer, optimizer: Any) -> int:
    optimizer = getattr(optimizer, "optimizer", optimizer)
    return next((i for i, other in enumerate(trainer.optimizers) if other is optimizer), 0)


def _of_module(trainer: leyden.Trainer, module: leyden.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    automatic = getattr(trainer, "automatic_optimization", None)
    if automatic is not None:
        found["automatic_optimization"] = automatic
    elif own(module, "automatic_optimization") is False:
        automatic = False
    for stage in ("training", "validation", "test"):
        step = own(module, f"{stage}_step")
        step_end = own(module, f"{stage}_step_end")
        if callable(step) and callable(step_end):
            legacy(
                f"{type(module).__qualname__}.{stage}_step_end", f"what it does at the end of {stage}_step", definition(step_end)
            )
            if not trainer.strategy.join_replicas(f"{stage}_step", _at_the_end(step_end)):
                found[f"{stage}_step"] = _with_end(step, step_end)
    _log_dicts(module, found)
    _turns(trainer, module, found)
    steps = _time_steps(trainer, module, found)
    _epoch_ends(trainer, module, steps)
    step = found.get("training_step") or own(module, "training_step")
    if callable(step) and found.get("automatic_optimization", module.automatic_optimization):
        watched = counted(trainer, module, step)
        if watched is not None:
            found["training_step"] = watched
    sharded = own(module, "configure_sharded_model")
    if callable(sharded) and own(module, "configure_model") is None:
        legacy(f"{type(module).__qualname__}.configure_sharded_model", "configure_model", definition(sharded))
        found["configure_model"] = sharded
    if says(module, "tbptt_reduce_fx", "tbptt_pad_token", "sync_dist_op"):
        found.update({name: _log(module, name) for name in ("log", "log_dict")})
    if automatic is False or module.automatic_optimization is False:
        _manual(module, found)
    if mentions(module, "toggle_optimizer", "untoggle_optimizer"):
        found.update(_toggles(trainer, module))
    show_running_loss(trainer, module)
    return found


def _at_the_end(step_end: Method) -> Callable[[list[Any]], Any]:
    return lambda outputs: step_end(gathered(outputs))


def _with_end(step: Method, step_end: Method) -> Method:
    @wraps(step)
    def step_and_end(*args: Any, **kwargs: Any) -> Any:
        return step_end(step(*args, **kwargs))

    return step_and_end


def _log_dicts(module: leyden.Module, found: dict[str, Any]) -> None:
    """Steps of 0.9 that return ``log`` and ``progress_bar``; which ones do is seen in their code."""
    step = found.get("training_step") or own(module, "training_step")
    if not callable(step) or not says(module, "log", "progress_bar"):
        return
    where = definition(own(module, "training_step"))

    @wraps(step)
    def logging_step(*args: Any, **kwargs: Any) -> Any:
        output = step(*args, **kwargs)
        if isinstance(output, Mapping) and ("log" in output or "progress_bar" in output):
            legacy(
                f"{type(module).__qualname__}.training_step, which returns 'log' or 'progress_bar',",
                "self.log(name, value)",
                where,
            )
            log_returned(module, output, skip_loss=True)
        return output

    found["training_step"] = logging_step


def _turns(trainer: leyden.Trainer, module: leyden.Module, found: dict[str, Any]) -> None:
    """``training_step`` with an index of the optimizer by another name; who asks for the running one's is told."""
    step = found.get("training_step") or own(module, "training_step")
    if not callable(step):
        return
    parameters = inspect.signature(step).parameters
    alias = next((name for name in parameters if canonical(name) == "optimizer_idx"), None)
    if alias is None or (alias == "optimizer_idx" and own(module, "backward") is None):
        return
    inner: Method = step
    name = alias

    def training_step(*args: Any, optimizer_idx: int = 0, **kwargs: Any) -> Any:
        vars(trainer)["turn"] = optimizer_idx
        return inner(*args, **{name: optimizer_idx}, **kwargs)

    kept = [p if key != name else p.replace(name="optimizer_idx") for key, p in parameters.items()]
    vars(training_step)["__signature__"] = inspect.Signature(kept)
    found["training_step"] = training_step


def _time_steps(trainer: leyden.Trainer, module: leyden.Module, found: dict[str, Any]) -> TimeSteps | None:
    size = own(module, "truncated_bptt_steps") or getattr(trainer, "truncated_bptt_steps", None)
    if not size or own(module, "training_step") is None:
        return None
    legacy(
        f"truncated_bptt_steps={size!r}",
        "manual optimization over the parts of a batch",
        definition(own(module, "training_step")),
    )
    steps = TimeSteps(trainer, module, found.get("training_step") or own(module, "training_step"), size)
    found["training_step"] = steps.training_step
    found["automatic_optimization"] = False
    trainer.bus.register(steps, name="truncated_bptt_steps")
    return steps


def _epoch_ends(trainer: leyden.Trainer, module: leyden.Module, steps: TimeSteps | None) -> None:
    methods: dict[str, Method] = {}
    for stage, modern in _EPOCH_ENDS.items():
        method = own(module, f"{stage}_epoch_end")
        if callable(method):
            methods[stage] = method
            legacy(
                f"{type(module).__qualname__}.{stage}_epoch_end(outputs)",
                f"{modern}(self), with what {stage}_step made kept in a list of your own",
                definition(method),
            )
    if methods:
        splits = (lambda: steps.outputs) if steps is not None else None
        by_optimizer = getattr(trainer, "legacy_outputs", None) == "optimizer_major"
        ends = EpochEnds(methods, lambda returned: log_returned(module, returned, skip_loss=False), splits, by_optimizer)
        trainer.bus.register(ends, name=f"{type(module).__qualname__}'s epoch ends")


def _log(module: leyden.Module, name: str) -> Method:
    method = getattr(module, name)

    def log(*args: Any, **kwargs: Any) -> None:
        for old in ("tbptt_reduce_fx", "tbptt_pad_token", "sync_dist_op"):
            if old in kwargs:
                value = kwargs.pop(old)
                legacy(f"self.{name}({old}=...)", f"self.{name}(...) without it; reduce_fx says how values are reduced")
                if old == "sync_dist_op" and value in ("sum", "min", "max", "mean", "avg"):
                    kwargs.setdefault("reduce_fx", value)
        method(*args, **kwargs)

    return log


def _manual(module: leyden.Module, found: dict[str, Any]) -> None:
    """``manual_backward(loss, optimizer)``; a module whose first call is of today is left alone after it."""
    if not mentions(module, "manual_backward"):
        return
    original = module.manual_backward

    def manual_backward(loss: Any, *args: Any, **kwargs: Any) -> None:
        optimizers = [value for value in args if isinstance(getattr(value, "optimizer", value), Optimizer)]
        named = kwargs.pop("optimizer", None)
        if optimizers or named is not None:
            legacy("self.manual_backward(loss, optimizer)", "self.manual_backward(loss)")
            args = tuple(value for value in args if not any(value is other for other in optimizers))
        elif vars(module).get("manual_backward") is manual_backward:
            del vars(module)["manual_backward"]
        original(loss, *args, **kwargs)

    found["manual_backward"] = manual_backward


def _toggles(trainer: leyden.Trainer, module: leyden.Module) -> dict[str, Any]:
    toggle, untoggle = module.toggle_optimizer, module.untoggle_optimizer

    def toggle_optimizer(optimizer: Any, optimizer_idx: int | None = None) -> None:
        if optimizer_idx is not None:
            legacy("self.toggle_optimizer(optimizer, optimizer_idx)", "self.toggle_optimizer(optimizer)")
        toggle(optimizer)

    def untoggle_optimizer(optimizer: Any = None, optimizer_idx: int | None = None) -> None:
        if isinstance(optimizer, int):
            optimizer_idx, optimizer = optimizer, None
        if optimizer is None:
            legacy("self.untoggle_optimizer(optimizer_idx)", "self.untoggle_optimizer(optimizer)")
            optimizer = trainer.optimizers[optimizer_idx or 0]
        untoggle(optimizer)

    return {"toggle_optimizer": toggle_optimizer, "untoggle_optimizer": untoggle_optimizer}
