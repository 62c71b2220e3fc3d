"""Runs a Trainer's parts on copies for a while, leaving no trace."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from leyden.bus import Bus
from leyden.data.combined import CombinedLoader
from leyden.datamodule import DataModule
from leyden.metrics.history import History
from leyden.metrics.store import Metrics
from leyden.plugins import hook_plugins
from leyden.profiler import Profiler
from leyden.progress import Progress
from leyden.seeding import isolated_random_state
from leyden.strategy import Strategy

if TYPE_CHECKING:
    from leyden.module import Module
    from leyden.trainer import Trainer


@contextmanager
def trial(
    trainer: Trainer,
    module: Module,
    *,
    datamodule: DataModule | None = None,
    loaders: Any = None,
    callbacks: Iterable[Any] = (),
    **settings: Any,
) -> Iterator[tuple[Trainer, Module, DataModule | None]]:
    """Gives a Trainer, a module and a data module to try something with, inside a ``with`` block.

    The Trainer has the same accelerator, strategy and precision, no logger and no callback but those given. The module is a deep
    copy that shares data sets and loaders; the data module is a shallow one. Afterwards random states and those of the
    loaders' generators and samplers are as before.

    In a run of several processes each has a trial of its own, in which no other takes part: a plain strategy on the device of
    this process. What is decided by it, the caller makes the same everywhere.

    Args:
        trainer: whose parts and settings; it may be running.
        module: what to copy.
        datamodule: what to copy.
        loaders: loaders that will be read.
        callbacks: all callbacks of the trial.
        settings: attributes of the Trainer that differ, such as ``max_steps``.

    Raises:
        ValueError: the Trainer has several processes that are not running yet, or a loader can be read once only.
        TypeError: the module cannot be copied.
    """
    if trainer.world_size > 1 and not trainer.running:
        raise ValueError(
            f"a trial runs in one process; this Trainer has {trainer.world_size}: try with devices=1 first, or with a callback, "
            f"such as 'learning_rate_finder' or 'batch_size_finder'"
        )
    copied = _copy(module)
    data = None if datamodule is None else copy.copy(datamodule)
    saved = list(_states([loaders, *_loaders_of(module), *_loaders_of(datamodule)]))
    other = _sibling(trainer, list(callbacks), settings)
    try:
        with isolated_random_state():
            yield other, copied, data
    finally:
        for owner, name, value in saved:
            if name == "state_dict":
                owner.load_state_dict(value)
            elif isinstance(owner, torch.Generator):
                owner.set_state(value)
            else:
                setattr(owner, name, value)


def _sibling(trainer: Trainer, callbacks: list[Any], settings: Mapping[str, Any]) -> Trainer:
    other = copy.copy(trainer)
    other.strategy, other.precision = _alone(trainer.strategy), copy.deepcopy(trainer.precision)
    other.profiler, other.loggers, other.callbacks, other.added_callbacks = Profiler(), [], callbacks, []
    other.module = other.datamodule = None
    other.progress, other.history, other.metrics = Progress(), History(), Metrics(other.strategy)
    other.optimizers, other.lr_scheduler_configs, other.optimizer_frequencies = [], [], []
    other.usual_callbacks = None
    other.reset()
    usual: dict[str, Any] = {
        "fast_dev_run": 0,
        "min_epochs": None,
        "min_steps": None,
        "max_time": None,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "reload_dataloaders_every_n_epochs": 0,
        "on_interrupt": "raise",
    }
    for name, value in {**usual, **settings}.items():
        setattr(other, name, value)
    other.max_epochs_given = other.max_epochs
    other.bus = Bus()
    for plugin, loaded in hook_plugins():
        other.bus.register(loaded, name=f"{plugin.name} ({plugin.distribution})")
    for callback in callbacks:
        other.bus.register(callback, role="callback")
    for component in other.driving_parts():
        other.bus.register(component, role="component")
    return other


def _alone(strategy: Strategy) -> Strategy:
    """The strategy of a trial: a copy, or where there are several processes one that asks no other for anything."""
    if strategy.world_size == 1:
        return copy.copy(strategy)
    plain = Strategy()
    plain.accelerator, plain.device = strategy.accelerator, strategy.device
    # Its number stays, for it says who prepares data and who speaks.
    plain.rank, plain.local_rank, plain.node_rank = strategy.rank, strategy.local_rank, strategy.node_rank
    return plain


def _copy(module: Module) -> Module:
    shared = (Dataset, DataLoader, Sampler, DataModule)
    memo = {id(value): value for part in module.modules() for value in vars(part).values() if isinstance(value, shared)}
    attached, module._trainer = module._trainer, None
    try:
        copied = copy.deepcopy(module, memo)
    except Exception as error:
        raise TypeError(
            f"a trial runs on a copy of the module, but {type(module).__name__} cannot be copied: {type(error).__name__}: {error}"
        ) from error
    finally:
        module._trainer = attached
    copied.configure_callbacks = list  # type: ignore[method-assign]  # those of the module belong to its real run
    return copied


def _loaders_of(owner: Any) -> list[Any]:
    return [] if owner is None else [value for value in vars(owner).values() if isinstance(value, DataLoader | list | dict)]


def _states(given: Any) -> Iterator[tuple[Any, str, Any]]:
    """What reading the loaders changes: whose, the attribute, and its value."""
    if isinstance(given, CombinedLoader):
        given = given.flattened
    if isinstance(given, Mapping):
        given = list(given.values())
    if isinstance(given, list | tuple):
        for item in given:
            if isinstance(item, DataLoader | list | tuple | dict | CombinedLoader):
                yield from _states(item)
            elif isinstance(item, Iterator):
                raise ValueError("a trial would use up the iterator that was given; pass an iterable that starts anew each epoch")
        return
    if not isinstance(given, DataLoader):
        return
    batch_sampler = given.batch_sampler
    for owner in (given, given.sampler, batch_sampler, getattr(batch_sampler, "sampler", None)):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            yield generator, "state", generator.get_state()
        epoch = getattr(owner, "epoch", None)
        if isinstance(owner, Sampler) and isinstance(epoch, int):
            yield owner, "epoch", epoch
    dataset: Any = given.dataset
    if hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict"):
        yield dataset, "state_dict", copy.deepcopy(dataset.state_dict())
