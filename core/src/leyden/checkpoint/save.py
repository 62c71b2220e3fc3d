"""Gathers what a checkpoint holds, and has it written."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leyden.checkpoint.compare import classes
from leyden.checkpoint.format import FORMAT
from leyden.checkpoint.hyperparameters import add_hyperparameters
from leyden.checkpoint.partial import parameter_names
from leyden.checkpoint.plain import NotPlain, plain, plain_entries
from leyden.checkpoint.training import progress_state, refuse_inside_step, training_state
from leyden.messages import listed, warn
from leyden.module import is_overridden
from leyden.returned import returned
from leyden.version import __version__

if TYPE_CHECKING:
    from leyden.callback import Callback
    from leyden.module import Module
    from leyden.trainer import Trainer


@dataclass(frozen=True)
class SaveFailure:
    """Why a checkpoint could not be written, the same on every process."""

    text: str
    """What the file system said, with the rank where that is not 0."""

    written: bool
    """Whether rank 0 has written its file all the same, so that what stood under its name before is gone."""


def try_save(trainer: Trainer, path: str, weights_only: bool = False) -> SaveFailure | None:
    """As ``trainer.save_checkpoint``, but what the file system of one process refuses is told to all of them and fails none.

    Two small collectives: one before anything is written, for what hooks of each process write, and one after.

    Args:
        trainer: the run; every process calls this.
        path: a file or URL.
        weights_only: leaves out what only training needs.

    Returns:
        What went wrong; None if the checkpoint is there.

    Raises:
        NonFiniteError: see ``trainer.save_checkpoint``.
        TypeError: a state is not plain data.
    """
    if trainer.running:
        trainer.finite_watch.before_save(path)
    states = _states(trainer, weights_only)
    own, checkpoint = "", states
    try:
        checkpoint = _completed(trainer, states)
    except OSError as error:
        own = _said(error)
    failures = trainer.strategy.all_gather_object(own)
    written = not any(failures)
    if written:
        try:
            write(trainer, checkpoint, path)
        except OSError as error:
            own = _said(error)
        failures = trainer.strategy.all_gather_object(own)
    for rank, text in enumerate(failures):
        if text:
            return SaveFailure(f"rank {rank}: {text}" if rank else text, written and not failures[0])
    return None


def _said(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def write(trainer: Trainer, checkpoint: dict[str, Any], path: str) -> None:
    """Has ``checkpoint_io`` write what this process writes, and tells the loggers.

    Raises:
        OSError: it could not be written; what stood there before still does.
    """
    if not trainer.strategy.writes_checkpoint:
        return
    trainer.checkpoint_io.save(checkpoint, path)
    if trainer.is_global_zero:
        trainer.checkpoint_io.after_save(lambda: _tell_loggers(trainer, path))
    if not trainer.running:
        trainer.checkpoint_io.teardown()  # nobody else will wait for one that writes in the background


def _tell_loggers(trainer: Trainer, path: str) -> None:
    for logger in trainer.quarantine.active(trainer.loggers):
        with trainer.quarantine.guard(logger, "after_save_checkpoint"):
            logger.after_save_checkpoint(path)


def gather(trainer: Trainer, weights_only: bool = False) -> dict[str, Any]:
    """The checkpoint of a run as it stands; every process calls it.

    Keys are Lightning's where it has them: ``epoch``, ``global_step``, ``state_dict``, ``optimizer_states``,
    ``lr_schedulers``, ``callbacks``, ``hyper_parameters``, ``hparams_name``. The rest is ``leyden``: the format, the version,
    the counters and the precision's state.

    Args:
        trainer: the run.
        weights_only: leaves out what only training needs.

    Raises:
        TypeError: a callback's state, or what a hook added, is not plain data.
        RuntimeError: a step is running, or there was no run.
    """
    return _completed(trainer, _states(trainer, weights_only))


def _states(trainer: Trainer, weights_only: bool) -> dict[str, Any]:
    """What processes gather together."""
    module = trainer.module
    if module is None:
        raise RuntimeError("there is nothing to save: no module was given to this Trainer yet")
    refuse_inside_step(trainer, weights_only)
    checkpoint: dict[str, Any] = {
        "epoch": trainer.progress.epoch,
        "global_step": trainer.global_step,
        "state_dict": _state(trainer.strategy.module_state(module), trainer.strategy, "module_state"),
        "leyden": {"format": FORMAT, "version": __version__, "progress": progress_state(trainer.progress)},
    }
    add_hyperparameters(checkpoint, module, "hyper_parameters", "hparams_name")
    if trainer.datamodule is not None:
        add_hyperparameters(checkpoint, trainer.datamodule, "datamodule_hyper_parameters", "datamodule_hparams_name")
    if not weights_only:
        checkpoint["optimizer_states"] = [
            _state(trainer.strategy.optimizer_state(optimizer), trainer.strategy, "optimizer_state")
            for optimizer in trainer.optimizers
        ]
        checkpoint["leyden"]["optimizer_parameters"] = parameter_names(module, trainer.optimizers)
        checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        checkpoint["leyden"].update(training_state(trainer), classes=classes(trainer))
        precision = _state(trainer.precision.state_dict(), trainer.precision)
        if precision:
            checkpoint["leyden"]["precision"] = precision
        states = ((key, _state(callback.state_dict(), callback)) for key, callback in stateful(trainer).items())
        checkpoint["callbacks"] = {key: state for key, state in states if state}
        if trainer.datamodule is not None:
            state = _state(trainer.datamodule.state_dict(), trainer.datamodule)
            if state:
                checkpoint[type(trainer.datamodule).__qualname__] = state
    return checkpoint


def _completed(trainer: Trainer, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """With what hooks add, as plain data."""
    module = trainer.module
    assert module is not None, "there were states of it"
    own = checkpoint.keys() - {"hyper_parameters"}
    trainer.bus.hook.on_save_checkpoint(trainer=trainer, module=module, checkpoint=checkpoint)
    if not trainer.running:
        module.on_save_checkpoint(checkpoint)  # after a run the module has left the bus
    if not trainer.refuses_hyperparameters:
        _leave_out(checkpoint, checkpoint.keys() - own, module, trainer.is_global_zero)
    try:
        # Weights are tensors already, and of any nesting that a strategy likes.
        return {key: value if key == "state_dict" else plain(value, key) for key, value in checkpoint.items()}
    except NotPlain as error:
        raise TypeError(
            f"a checkpoint holds tensors, numbers, strings, lists and dicts only, but {error}; save what it is made of instead"
        ) from None


def _leave_out(checkpoint: dict[str, Any], added: Set[str], module: Module, speaks: bool) -> None:
    """Leaves out what hooks added and is not plain data, with one warning."""
    left_out: dict[str, NotPlain] = {}
    checkpoint.update(plain_entries({key: checkpoint[key] for key in checkpoint if key in added}, "", left_out))
    for key in left_out.keys() & checkpoint.keys():
        del checkpoint[key]
    new = [place for place in left_out if place not in module._hparams_reported]
    module._hparams_reported = (*module._hparams_reported, *new)
    if new and speaks:
        warn("LY010", f"what on_save_checkpoint added as {listed(new)} is not plain data and is not in the checkpoint")


def _state(value: Any, owner: object, method: str = "state_dict") -> dict[str, Any]:
    return returned(value, owner, method, dict, "a dict")


def stateful(trainer: Trainer) -> dict[str, Callback]:
    """The callbacks that may have state, by key.

    Raises:
        ValueError: two of them have the same key.
    """
    from leyden.callback import Callback

    found: dict[str, Callback] = {}
    for callback in trainer.callbacks:
        if not isinstance(callback, Callback) or not is_overridden("state_dict", callback, Callback):
            continue
        key = returned(callback.state_key, callback, "state_key", str, "a str")
        if key in found:
            raise ValueError(
                f"two callbacks of class {type(callback).__qualname__} have the same state_key {key!r}, so a checkpoint "
                f"could keep one of them only; override state_key, adding the options that tell them apart"
            )
        found[key] = callback
    return found
