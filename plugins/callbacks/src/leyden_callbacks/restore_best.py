"""Gives the module the weights of the best checkpoint when training ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leyden import Callback, hookimpl

from leyden_callbacks.pruning import ModelPruning
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class RestoreBest(Callback):
    """After ``fit`` the module has the weights of the best checkpoint rather than those of the last step.

    The best is that of the first checkpoint callback that monitors a value; what it saved last counts, too. Weights are all that
    is restored: counters, optimizers and the checkpoints on the disk stay as they are. Nothing is restored when training fails or
    is interrupted, for then it is to go on from where it was.
    """

    name = "restore_best"

    def __init__(self) -> None:
        self.restored_path = ""
        """The checkpoint whose weights the module was given; empty if it was not."""

    def validate_run(self, trainer: Trainer, module: Module) -> None:
        """Refuses a run that has no best checkpoint.

        Raises:
            ValueError: no checkpoint callback monitors anything, or the module keeps masks that no checkpoint has.
        """
        self.restored_path = ""
        if trainer.fast_dev_run:
            return
        if not any(getattr(callback, "monitor", None) for callback in trainer.checkpoint_callbacks):
            raise ValueError(
                f"{type(self).__name__} restores the best checkpoint, but no checkpoint callback of this Trainer monitors a "
                f"value; add one, such as {{'checkpoint': {{'monitor': 'val_loss'}}}}"
            )

        if any(isinstance(callback, ModelPruning) and not callback.make_pruning_permanent for callback in trainer.callbacks):
            raise ValueError(
                f"{type(self).__name__} and ModelPruning(make_pruning_permanent=False): checkpoints have plain weights, which a "
                f"module with masks cannot load; leave out one of them"
            )

    @hookimpl(trylast=True)  # others leave averages in the module, or make it plain
    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Loads the weights, on every process."""
        callbacks = (callback for callback in trainer.checkpoint_callbacks if getattr(callback, "monitor", None))
        path = next((found for callback in callbacks if (found := callback.resolve_checkpoint("best"))), None)
        if trainer.fast_dev_run or path is None:
            return
        trainer.checkpoint_io.wait()
        trainer.strategy.barrier()  # rank 0 alone may write it, and in the background
        checkpoint = trainer.checkpoint_io.load(path)
        trainer.strategy.load_module_state(module, checkpoint["state_dict"], strict=module.strict_loading)
        self.restored_path = path
        say(trainer, f"the module has the weights of the best checkpoint: {path} (step {checkpoint['global_step']})")
