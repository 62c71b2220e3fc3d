"""Says in words what a Trainer chose and why, and what a fit will do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from leyden.accelerator import Accelerator
from leyden.data.loaders import INFINITE
from leyden.data.stages import load_train, load_validation
from leyden.loops.validation_interval import validation_interval
from leyden.messages import listed, quoted, table
from leyden.module import Module, is_overridden
from leyden.notebook import Text, html_table
from leyden.optim.configure import Optimization, read_optimizers
from leyden.optim.schedulers import Schedulers
from leyden.plugins import brought_by, load_all
from leyden.seeding import isolated_random_state

if TYPE_CHECKING:
    from leyden.datamodule import DataModule
    from leyden.trainer import Trainer


def explain(trainer: Trainer, model: Module | None = None) -> Text:
    """What a Trainer chose for each of its parts, who brought it and why, as text.

    Args:
        trainer: any Trainer.
        model: adds the dtypes of a module's parameters and buffers; that of the last run if not given.
    """

    def owner(part: object) -> str:
        found = brought_by(part)
        return found.distribution if found else type(part).__module__.split(".")[0]

    parts: list[tuple[str, Any]] = [
        ("accelerator", trainer.accelerator),
        ("strategy", trainer.strategy),
        ("precision", trainer.precision),
        ("environment", trainer.environment),
        ("checkpoint_io", trainer.checkpoint_io),
        ("profiler", trainer.profiler),
        *(("logger", logger) for logger in trainer.loggers),
        *(("callback", callback) for callback in trainer.callbacks),
    ]
    rows = [[kind, type(part).__qualname__, owner(part), _reason(trainer, kind, part)] for kind, part in parts]
    devices = ", ".join(str(trainer.accelerator.device(index)) for index in trainer.device_ids)
    rows.insert(1, ["devices", devices, f"{trainer.strategy.world_size} process(es)", _reason(trainer, "devices", None)])
    lines = [_left(rows, ["part", "chosen", "from", "why"])]
    if trainer.choices["accelerator"] == "auto":
        absent = [
            plugin.name
            for plugin, loaded in load_all(Accelerator)
            if isinstance(loaded, type) and issubclass(loaded, Accelerator) and not loaded.is_available()
        ]
        lines += ["", f"accelerators not on this machine: {', '.join(absent)}"] if absent else []
    hooks = [
        f"  {participant.name}: {', '.join(trainer.bus.implementations_of(participant.plugin)) or 'no hook'}"
        for participant in trainer.bus.participants
        if participant.role != "component" or trainer.bus.implementations_of(participant.plugin)
    ]
    lines += ["", "on the bus, in the order of calls:", *hooks]
    module = model or trainer.module
    if module is not None:
        lines += ["", "dtypes:", *(f"  {line}" for line in _dtypes(trainer, module).splitlines())]
    return Text("\n".join(lines))


def _reason(trainer: Trainer, kind: str, part: object) -> str:
    given = trainer.choices.get(kind)
    if kind == "callback":
        return "a default" if any(part is added for added in trainer.added_callbacks) else "was given"
    if kind == "accelerator" and given == "auto":
        return "auto: the available one of the highest priority"
    if kind == "devices" and given == "auto":
        return "auto: what the accelerator has"
    if kind == "strategy" and given == "auto":
        several = len(trainer.device_ids) > 1 or trainer.num_nodes > 1
        return "auto: suits several devices best" if several else "auto: there is one device"
    if kind == "environment" and given == "auto":
        return "auto: the one that detected itself" if type(trainer.environment).detect() else "auto: no other detected itself"
    if given in (None, True):
        return "the default"
    return f"{kind}={quoted(given, kind, room=200)} was given" if isinstance(given, str | int | dict) else "an object was given"


def _left(rows: list[list[str]], header: list[str]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: list[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    return "\n".join(line(row) for row in [header, *rows])


def _dtypes(trainer: Trainer, module: Module) -> str:
    """For each parameter group how many parameters it has and the dtypes of all they have to do with, as a table."""
    optimizers = trainer.optimizers if trainer.module is module else []
    several = sum(len(optimizer.param_groups) for optimizer in optimizers) > 1
    groups: list[tuple[str, list[nn.Parameter], Any]] = [
        (
            f"{type(optimizer).__name__}{f' {i}' if len(optimizers) > 1 else ''}{f', group {j}' if several else ''}",
            group["params"],
            optimizer,
        )
        for i, optimizer in enumerate(optimizers)
        for j, group in enumerate(optimizer.param_groups)
    ]
    grouped = {id(parameter) for _, parameters, _ in groups for parameter in parameters}
    rest = [parameter for parameter in module.parameters() if id(parameter) not in grouped]
    trained = [parameter for parameter in rest if parameter.requires_grad]
    groups.append(("in no optimizer" if optimizers else "all that are trained", trained, None))
    groups.append(("frozen", [parameter for parameter in rest if not parameter.requires_grad], None))
    rows = [
        [name, f"{sum(parameter.numel() for parameter in parameters):,}", *_dtypes_of_group(trainer, parameters, optimizer)]
        for name, parameters, optimizer in groups
        if parameters
    ]
    return _left(rows, ["parameter group", "parameters", "storage", "compute", "gradient", "optimizer state", "reduction"])


def _dtypes_of_group(trainer: Trainer, parameters: list[nn.Parameter], optimizer: Any) -> list[str]:
    stored = [_converted(trainer, parameter.dtype) for parameter in parameters]
    trained = [
        parameter.grad.dtype if parameter.grad is not None else dtype
        for parameter, dtype in zip(parameters, stored, strict=True)
        if parameter.requires_grad
    ]
    compute = [trainer.precision.dtype] if trainer.precision.dtype is not None else stored
    state = [
        value.dtype
        for parameter in parameters
        for key, value in (optimizer.state.get(parameter, {}) if optimizer is not None else {}).items()
        if isinstance(value, torch.Tensor) and key != "step"
    ]
    reduced = [found for found in map(trainer.strategy.reduction_dtype, trained) if found is not None]
    return [
        _named(stored),
        _named(compute),
        _named(trained) or "none",
        _named(state) or ("none yet" if trained else "none"),
        _named(reduced) or "none",
    ]


def _named(dtypes: Iterable[torch.dtype]) -> str:
    return ", ".join(sorted({str(dtype).removeprefix("torch.") for dtype in dtypes}))


def _converted(trainer: Trainer, dtype: torch.dtype) -> torch.dtype:
    """What the precision makes of a parameter's dtype when a run starts."""
    stand_in = nn.ParameterList([nn.Parameter(torch.empty(1, dtype=dtype, device="meta"), requires_grad=False)])
    trainer.precision.convert_module(stand_in)
    converted: torch.dtype = stand_in[0].dtype
    return converted


@dataclass(repr=False)
class Plan:
    """What a fit will do; ``str()`` of it is a table, and so is what a notebook shows."""

    batches_per_epoch: int | float
    steps_per_epoch: int | float
    epochs: int | float
    steps: int | float
    """Optimizer steps in all; infinite where nothing limits them."""

    validations: list[int] = field(default_factory=list)
    """The number of optimizer steps done at each validation, up to ``horizon`` steps."""

    learning_rates: dict[str, list[float]] = field(default_factory=dict)
    """For each parameter group the learning rate of each optimizer step, up to ``horizon`` steps."""

    horizon: int = 0
    """How many steps were worked out."""

    def __str__(self) -> str:
        return table(self._rows(), ["plan", ""])

    def _repr_html_(self) -> str:
        return html_table(self._rows(), ["plan", ""])

    def __repr__(self) -> str:
        return (
            f"Plan({_number(self.steps)} steps in {_number(self.epochs)} epochs of {_number(self.steps_per_epoch)}; "
            f"{len(self.validations)} validations and learning rates of {listed(self.learning_rates)} in {self.horizon} steps)"
        )

    def _rows(self) -> list[list[str]]:
        return [
            ["batches per epoch", _number(self.batches_per_epoch)],
            ["optimizer steps per epoch", _number(self.steps_per_epoch)],
            ["epochs", _number(self.epochs)],
            ["optimizer steps", _number(self.steps)],
            [f"validations in {self.horizon} steps", str(len(self.validations))],
            *(
                [f"learning rate {name}", f"{rates[0]:.3g} to {rates[-1]:.3g}"]
                for name, rates in self.learning_rates.items()
                if rates
            ),
        ]


def plan(trainer: Trainer, model: Module, train: Any, val: Any, datamodule: DataModule | None, horizon: int) -> Plan:
    """Works out a fit without training; see :meth:`leyden.Trainer.plan`."""
    trainer.reset()
    trainer.module, trainer.datamodule = model, datamodule
    trainer.given_train, trainer.given_val = train, val
    previous, model.trainer = model._trainer, trainer
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with isolated_random_state():
            if datamodule is not None:
                datamodule.trainer = trainer
                datamodule.prepare_data()
                datamodule.setup("fit")
            model.setup("fit")
            model.configure_model()
            loader = load_train(trainer)
            has_validation = is_overridden("validation_step", model, Module) and trainer.limit_val_batches != 0
            validates = has_validation and bool(load_validation(trainer, model))
            found = read_optimizers(model.configure_optimizers(), f"{type(model).__name__}.configure_optimizers")
            result = _totals(trainer, loader.length, horizon)
            for parameter in model.parameters():
                parameter.grad = None  # so that no step changes anything
            _simulate(trainer, model, found, validates, result, loader.batch_sizes())
        return result
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        model.trainer = previous
        trainer.reset()


def _totals(trainer: Trainer, length: int | float, horizon: int) -> Plan:
    per_epoch = length if length == INFINITE else -(-int(length) // trainer.accumulate_grad_batches)
    epochs: int | float = INFINITE if trainer.max_epochs == -1 else trainer.max_epochs
    if trainer.max_epochs_given is None and trainer.max_steps == -1 and trainer.max_time is None:
        epochs = 1000
    steps = trainer.steps_of(length, epochs)
    if trainer.max_steps != -1:
        steps = min(steps, trainer.max_steps)
        epochs = min(epochs, -(-int(steps) // int(per_epoch))) if per_epoch not in (0, INFINITE) else epochs
    return Plan(length, per_epoch, epochs, steps, horizon=int(min(steps, horizon)))


def _simulate(
    trainer: Trainer,
    model: Module,
    found: Optimization,
    validates: bool,
    result: Plan,
    sizes: tuple[int, int] | tuple[None, None],
) -> None:
    """Goes through the batches of a fit as the loop does, with optimizers that have no gradients."""
    length, window = result.batches_per_epoch, trainer.accumulate_grad_batches
    interval = validation_interval(trainer, length)
    # What they monitor cannot be known; that of a plateau decides whether it steps, that of others is not used.
    known = [replace(config, monitor=None) for config in found.schedulers if not config.reduce_on_plateau]
    steps = [0] * len(found.optimizers)
    schedulers = Schedulers(known, model, trainer.metrics, steps)
    cycle = [index for index, frequency in enumerate(found.frequencies) for _ in range(frequency)]
    names = [
        f"{type(optimizer).__name__}{f'-{i}' if i else ''}{f'/pg{j + 1}' if len(optimizer.param_groups) > 1 else ''}"
        for i, optimizer in enumerate(found.optimizers)
        for j in range(len(optimizer.param_groups))
    ]
    groups = [group for optimizer in found.optimizers for group in optimizer.param_groups]
    result.learning_rates = {name: [] for name in names}
    step = epoch = batch = total = validated_at = validations = samples = validated_samples = in_window = 0
    while step < result.horizon:
        batch, total = batch + 1, total + 1
        is_last = batch == length
        samples += (sizes[1] if is_last else sizes[0]) or 0
        in_window += 1
        carries = trainer.carry_accumulation and epoch + 1 != result.epochs
        if in_window == window or (is_last and not carries):
            in_window = 0
            for name, group in zip(names, groups, strict=True):
                result.learning_rates[name].append(float(group["lr"]))
            active = [cycle[step % len(cycle)]] if cycle else list(range(len(steps)))
            for index in active:
                found.optimizers[index].step(_no_loss)  # torch warns of a scheduler that steps before its optimizer
                steps[index] += 1
            step += 1
            schedulers.advance_steps(active)
        if is_last:
            schedulers.advance(schedulers.epoch, epoch + 1)
        every, due = trainer.check_val_every_n_epoch, False
        if not validates or (every is not None and (epoch + 1) % every) or trainer.val_check_seconds is not None:
            pass  # what goes by the clock a plan does not know
        elif trainer.val_check_steps is not None:
            due = step % trainer.val_check_steps == 0 and step != validated_at
        elif trainer.val_check_samples is not None:  # none where nobody knows how many samples a batch has
            due = samples // trainer.val_check_samples > validated_samples // trainer.val_check_samples
        elif interval == INFINITE:
            due = is_last
        else:
            due = (total if every is None else batch) % interval == 0
        if due:
            result.validations.append(step)
            validated_at, validated_samples, validations = step, samples, validations + 1
            schedulers.advance(schedulers.validation, validations)
        if is_last:
            epoch, batch = epoch + 1, 0


def _no_loss() -> float:
    return 0.0


def _number(value: int | float) -> str:
    return "unlimited" if value == INFINITE else f"{int(value):,}"
