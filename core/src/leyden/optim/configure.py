"""Reads what ``configure_optimizers`` may return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from leyden.messages import alternatives, listed, shown

INTERVALS = ("epoch", "step", "validation")


@dataclass
class SchedulerConfig:
    """A scheduler and when it steps."""

    scheduler: Any
    interval: str = "epoch"
    """``"epoch"``, ``"step"`` (optimizer steps) or ``"validation"``."""

    frequency: int = 1
    """Every how many of those."""

    monitor: str | None = None
    """The key of ``callback_metrics`` that the scheduler is stepped with."""

    strict: bool = True
    """Whether a missing monitor is an error; otherwise the scheduler is not stepped."""

    reduce_on_plateau: bool = False
    """Whether ``step`` takes the monitored value."""

    name: str | None = None
    """What learning-rate monitors call it."""

    optimizer_idx: int = 0
    """The index of its optimizer."""

    paused: bool = False
    """While it is set, the scheduler is not stepped: a callback sets the learning rate."""


@dataclass
class Optimization:
    """The optimizers and schedulers of a run."""

    optimizers: list[Optimizer]
    schedulers: list[SchedulerConfig]
    frequencies: list[int]
    """How many batches in a row each optimizer acts on; empty where all act on every batch."""


def read_optimizers(returned: Any, where: str) -> Optimization:
    """Reads every form that ``configure_optimizers`` may return.

    Args:
        returned: an optimizer; a list or tuple of optimizers; ``([optimizers], [schedulers])``; a dict with ``optimizer`` and
            perhaps ``lr_scheduler`` (one or a list), ``monitor``, ``frequency``; a list or tuple of such dicts; None.
        where: the method's name, for messages.

    Raises:
        TypeError: it is none of these forms.
        ValueError: a scheduler belongs to no optimizer given, or an entry is wrong.
    """
    optimizers: list[Optimizer] = []
    schedulers: list[tuple[Any, str | None]] = []  # as given, with the monitor given beside it
    frequencies: list[int | None] = []

    def add_optimizers(value: Any, frequency: int | None = None) -> None:
        for optimizer in value if isinstance(value, list | tuple) else [value]:
            if not _is_optimizer(optimizer):
                raise TypeError(f"{where}: expected an optimizer, got {shown(optimizer)}")
            optimizers.append(optimizer)
            frequencies.append(frequency)

    def add_dict(value: Mapping[str, Any]) -> None:
        known = ("optimizer", "lr_scheduler", "monitor", "frequency")
        for key in value:
            if key not in known:
                raise ValueError(f"{where}: unknown key {key!r}{alternatives(key, known, 'the keys')}")
        if "optimizer" not in value:
            raise ValueError(f"{where}: the dict has no 'optimizer'; its keys are {listed(value)}")
        add_optimizers(value["optimizer"], value.get("frequency"))
        found = value.get("lr_scheduler")
        if found is not None:
            for scheduler in found if isinstance(found, list | tuple) else [found]:
                schedulers.append((scheduler, value.get("monitor")))

    if returned is None:
        pass
    elif isinstance(returned, Mapping):
        add_dict(returned)
    elif isinstance(returned, list | tuple):
        items = list(returned)
        if len(items) == 2 and all(isinstance(item, list | tuple) for item in items):
            add_optimizers(items[0])
            schedulers = [(scheduler, None) for scheduler in items[1]]
        else:
            for item in items:
                if isinstance(item, Mapping):
                    add_dict(item)
                else:
                    add_optimizers(item)
    else:
        add_optimizers(returned)
    given = [frequency for frequency in frequencies if frequency is not None]
    if given and len(given) < len(frequencies):
        raise ValueError(
            f"{where}: 'frequency' is given for {len(given)} of {len(frequencies)} optimizers; give it for all or none"
        )
    configs = [_read_scheduler(scheduler, monitor, optimizers, where) for scheduler, monitor in schedulers]
    return Optimization(optimizers, configs, [int(frequency) for frequency in given])


def _is_optimizer(value: Any) -> bool:
    # A third party's optimizer need not inherit from torch's, but must have what the loop and checkpoints use.
    return isinstance(value, Optimizer) or all(
        hasattr(value, name) for name in ("step", "zero_grad", "param_groups", "state_dict")
    )


def _read_scheduler(given: Any, monitor: str | None, optimizers: Sequence[Optimizer], where: str) -> SchedulerConfig:
    if isinstance(given, Mapping):
        known = tuple(SchedulerConfig.__dataclass_fields__)[:-2]
        for key in given:
            if key not in known:
                raise ValueError(f"{where}: unknown scheduler key {key!r}{alternatives(key, known, 'the keys')}")
        if "scheduler" not in given:
            raise ValueError(f"{where}: the scheduler dict has no 'scheduler'; its keys are {listed(given)}")
        config = SchedulerConfig(**given)
    else:
        config = SchedulerConfig(given)
    config.monitor = config.monitor if config.monitor is not None else monitor
    scheduler = config.scheduler
    if not callable(getattr(scheduler, "step", None)):
        raise TypeError(f"{where}: expected a scheduler, got {shown(scheduler)}")
    if config.interval not in INTERVALS:
        raise ValueError(f"{where}: interval={config.interval!r}{alternatives(str(config.interval), INTERVALS, 'the intervals')}")
    if not isinstance(config.frequency, int) or config.frequency < 1:
        raise ValueError(f"{where}: frequency={config.frequency!r}: expected an int of at least 1")
    if isinstance(scheduler, ReduceLROnPlateau):
        config.reduce_on_plateau = True
        if config.monitor is None:
            raise ValueError(
                f"{where}: ReduceLROnPlateau needs the key of a logged value; return "
                f"{{'optimizer': optimizer, 'lr_scheduler': {{'scheduler': scheduler, 'monitor': 'val_loss'}}}}"
            )
    owner = getattr(scheduler, "optimizer", None)
    if isinstance(scheduler, LRScheduler) or owner is not None:
        indices = [index for index, optimizer in enumerate(optimizers) if optimizer is owner]
        if not indices:
            raise ValueError(
                f"{where}: {type(scheduler).__name__} belongs to an optimizer that was not returned; return that too"
            )
        config.optimizer_idx = indices[0]
    return config
