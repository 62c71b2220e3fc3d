"""What a run of Lightning's Trainer has beside leyden's: its keys in checkpoints, and its count of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import leyden

from leyden_lightning.api.version import __version__


def _progress(ready: int, done: int) -> dict[str, int]:
    return {"ready": ready, "started": ready, "processed": done, "completed": done}


class LightningRun:
    """Added to the Trainer's callbacks as the last participant.

    A checkpoint gets the keys that Lightning looks for: ``pytorch-lightning_version`` and ``loops``, so that Lightning
    2.6 loads it. ``max_steps`` counts the steps of all optimizers.
    """

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        """Adds Lightning's keys."""
        checkpoint.setdefault("pytorch-lightning_version", __version__)
        checkpoint.setdefault("loops", loops(trainer))
        if "hyper_parameters" in checkpoint:
            checkpoint.setdefault("hparams_name", "kwargs")

    def on_train_start(self, trainer: leyden.Trainer, module: leyden.Module) -> None:
        """Watches the steps where they are more than batches."""
        several = len(trainer.optimizers) > 1 or not module.automatic_optimization
        if several and trainer.max_steps != -1 and not any(isinstance(p.plugin, _StopAt) for p in trainer.bus.participants):
            trainer.bus.register(_StopAt(trainer.max_steps), name="max_steps")

    def on_train_epoch_start(self, trainer: leyden.Trainer, module: leyden.Module) -> None:
        """Begins the turns of optimizers with frequencies anew, as 1.9 does in each epoch."""
        if trainer.optimizer_frequencies:
            trainer.progress.turns = 0


class _StopAt:
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any) -> None:
        if trainer.global_step >= self.steps:
            trainer.should_stop = True

    def teardown(self, trainer: Any) -> None:
        trainer.bus.unregister(self)


def loops(trainer: leyden.Trainer) -> Mapping[str, Any]:
    """Where a run is, in the words of Lightning 2.6's loops."""
    progress = trainer.progress
    over = progress.epoch_ended
    epochs = progress.epoch
    batches = progress.batch
    steps = sum(progress.optimizer_steps) or progress.global_step
    epoch = {"ready": epochs + 1, "started": epochs + 1, "processed": epochs + over, "completed": epochs}
    counts = _progress(batches, batches)
    total = _progress(progress.total_batches, progress.total_batches)
    ready = {"total": {"ready": steps, "completed": steps}, "current": {"ready": steps, "completed": steps}}
    zero: dict[str, Any] = {
        "total": {"ready": steps, "started": steps, "completed": steps},
        "current": {"ready": steps, "started": steps, "completed": steps},
    }
    empty = _progress(0, 0)
    batch_progress = {"total": total, "current": counts, "is_last_batch": bool(trainer.is_last_batch)}
    idle = {"total": dict(empty), "current": dict(empty), "is_last_batch": False}
    fit: dict[str, Any] = {
        "state_dict": {},
        "epoch_loop.state_dict": {"_batches_that_stepped": progress.global_step},
        "epoch_loop.batch_progress": batch_progress,
        "epoch_loop.scheduler_progress": {
            "total": {"ready": 0, "completed": 0},
            "current": {"ready": 0, "completed": 0},
        },
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": {"step": ready, "zero_grad": zero}},
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": {
            "total": {"ready": 0, "completed": 0},
            "current": {"ready": 0, "completed": 0},
        },
        "epoch_loop.val_loop.state_dict": {},
        "epoch_loop.val_loop.batch_progress": idle,
        "epoch_progress": {"total": dict(epoch), "current": dict(epoch)},
    }
    evaluation = {"state_dict": {}, "batch_progress": idle}
    return {
        "fit_loop": fit,
        "validate_loop": dict(evaluation),
        "test_loop": dict(evaluation),
        "predict_loop": dict(evaluation),
    }
