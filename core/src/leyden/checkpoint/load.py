"""Puts back what a checkpoint holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leyden.checkpoint.choose import why_unfit
from leyden.checkpoint.compare import in_order, refuse_others
from leyden.checkpoint.save import stateful

if TYPE_CHECKING:
    from leyden.trainer import Trainer


def restore_weights(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Loads the module's weights and the state of data module and callbacks, with their hooks; before optimizers exist."""
    module = trainer.module
    assert module is not None
    module.on_load_checkpoint(checkpoint)
    weights = checkpoint["state_dict"]
    try:
        trainer.strategy.load_module_state(module, weights, strict=module.strict_loading)
    except RuntimeError as error:
        raise RuntimeError(why_unfit(module, weights, trainer.loaded_checkpoint, error)) from error
    if trainer.datamodule is not None:
        state = checkpoint.get(type(trainer.datamodule).__qualname__)
        if state:
            trainer.datamodule.load_state_dict(state)


def restore_callbacks(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Gives callbacks the checkpoint, then their own state."""
    from leyden.callback import Callback

    assert trainer.module is not None
    module = trainer.module
    for participant in trainer.bus.participants:
        if participant.plugin is not module:
            trainer.bus.call_one(participant.plugin, "on_load_checkpoint", trainer, module, checkpoint)
    states, fits = checkpoint.get("callbacks", {}), trainer.stage == "fit"
    for callback in trainer.callbacks:
        if not isinstance(callback, Callback) or not (fits or callback.takes_state_in_evaluation):
            continue
        if callback.state_key in states:
            callback.load_state_dict(states[callback.state_key])


def restore_training(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Loads counters, optimizers, schedulers and the precision's state.

    Raises:
        ValueError: the checkpoint has no training state, or is of other optimizers or schedulers.
    """
    if "optimizer_states" not in checkpoint:
        raise ValueError(
            "this checkpoint has weights only, so training cannot continue from it; load the weights with "
            "load_from_checkpoint() and fit without ckpt_path"
        )
    refuse_others(trainer, checkpoint)
    own = checkpoint.get("leyden", {})
    progress = own.get("progress") or {"epoch": checkpoint.get("epoch", 0), "global_step": checkpoint.get("global_step", 0)}
    trainer.progress.load_state_dict(progress)
    for optimizer, state in zip(trainer.optimizers, in_order(trainer, checkpoint), strict=True):
        trainer.strategy.load_optimizer_state(optimizer, state)
    for config, state in zip(trainer.lr_scheduler_configs, checkpoint.get("lr_schedulers", []), strict=True):
        config.scheduler.load_state_dict(state)
    if own.get("precision"):
        trainer.precision.load_state_dict(own["precision"])
    stateful(trainer)  # refuses two callbacks of one key now rather than at the first save
