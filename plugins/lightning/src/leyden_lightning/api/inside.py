"""What packages read of Lightning's inside, although it was never meant for them."""

from __future__ import annotations

import inspect
from types import FrameType, SimpleNamespace
from typing import Any

import leyden
from leyden.checkpoint.save import gather
from leyden.progress import BATCH_END, BATCH_START, STEP, VALIDATION

from leyden_lightning.api.tools import is_overridden


class _AcceleratorConnector:  # its name in Lightning
    """Which accelerator and devices a choice comes to, and whether a run has several processes.

    Args:
        accelerator: as for the Trainer.
        devices: as for the Trainer.
        others: further arguments of the Trainer.
    """

    def __init__(self, accelerator: Any = "auto", devices: Any = "auto", **others: Any) -> None:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        self._read(leyden.Trainer(accelerator=accelerator, devices=devices, **{**quiet, **others}))

    @classmethod
    def of(cls, trainer: leyden.Trainer) -> _AcceleratorConnector:
        """That of a Trainer."""
        made = cls.__new__(cls)
        made._read(trainer)
        return made

    def _read(self, trainer: leyden.Trainer) -> None:
        kind = trainer.strategy.device.type
        self.accelerator, self.strategy = trainer.accelerator, trainer.strategy
        self._accelerator_flag = kind
        self._parallel_devices = [trainer.strategy.device]
        self._devices_flag = len(trainer.device_ids) if kind == "cpu" else list(trainer.device_ids)

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes."""
        return self.strategy.world_size > 1

    @staticmethod
    def _choose_auto_accelerator(*_: Any) -> str:
        return _AcceleratorConnector()._accelerator_flag


class FitLoopView:
    """``trainer.fit_loop`` as packages know it.

    The counters are those of the Trainer, and there is one loop, so that ``epoch_loop`` is this object too. Everything else is
    asked of leyden's own loop.
    """

    def __init__(self, trainer: leyden.Trainer, loop: Any) -> None:
        self._trainer, self._loop = trainer, loop

    @property
    def epoch_loop(self) -> FitLoopView:
        """Itself: there is one loop."""
        return self

    @property
    def val_loop(self) -> _ValidationView:
        """Whether, and on how many batches, the run validates."""
        return _ValidationView(self._trainer)

    def setup_data(self) -> None:
        """Reads the training loader, so that its length is known in ``configure_optimizers``."""
        _ = self._trainer.estimated_stepping_batches

    @property
    def max_epochs(self) -> int | None:
        """That of the Trainer.

        Raises:
            AttributeError: it is set after a fit, where Lightning would go on training, which is said in another way here.
        """
        return self._trainer.max_epochs

    @max_epochs.setter
    def max_epochs(self, epochs: int) -> None:
        if self._trainer.progress.epoch and not self._trainer.running:
            raise AttributeError(
                f"trainer.fit_loop.max_epochs = {epochs!r}: a further fit() begins with epoch 0 here; to go on, write "
                f"trainer.max_epochs = {epochs!r} and trainer.fit(model, ckpt_path='last')"
            )
        self._trainer.max_epochs = epochs

    @property
    def min_epochs(self) -> int | None:
        """That of the Trainer."""
        return self._trainer.min_epochs

    @property
    def max_steps(self) -> int:
        """That of the Trainer."""
        return self._trainer.max_steps

    @property
    def min_steps(self) -> int | None:
        """That of the Trainer."""
        return self._trainer.min_steps

    @property
    def max_batches(self) -> float:
        """Training batches of an epoch."""
        return self._trainer.num_training_batches

    @property
    def current_epoch(self) -> int:
        """The index of the running epoch."""
        return self._trainer.current_epoch

    @property
    def global_step(self) -> int:
        """Steps of all optimizers."""
        return self._trainer.global_step

    @property
    def _batches_that_stepped(self) -> int:
        # Lightning counts a step after the hooks of its batch, and after the validation that follows it.
        progress = self._trainer.progress
        return progress.global_step - bool(progress.moment in (BATCH_END, VALIDATION) and self._loop.stepped)

    @property
    def batch_idx(self) -> int:
        """The index of the running batch of the epoch, or of the last one; -1 before any."""
        return self._trainer.progress.batch - (not self._in_batch)

    @property
    def total_batch_idx(self) -> int:
        """Likewise over all epochs."""
        return self._trainer.progress.total_batches - (not self._in_batch)

    @property
    def epoch_progress(self) -> SimpleNamespace:
        """The epochs that began, were trained and are over."""
        progress, running = self._trainer.progress, self._trainer.running
        ready = progress.epoch + running
        return _counts(ready, progress.epoch + bool(running and progress.epoch_ended), progress.epoch)

    @property
    def batch_progress(self) -> SimpleNamespace:
        """The batches of the epoch that began, were trained and are over."""
        done, total, in_batch = self._trainer.progress.batch, self._trainer.progress.total_batches, self._in_batch
        ending = self._trainer.progress.moment == BATCH_END
        found = _counts(done + in_batch, done, done - ending)
        found.total = _counts(total + in_batch, total, total - ending).current
        found.is_last_batch = bool(self._trainer.is_last_batch)
        return found

    @property
    def _in_batch(self) -> bool:
        return self._trainer.progress.moment in (BATCH_START, STEP)

    @property
    def _data_source(self) -> _ValidationView:
        return self.val_loop

    def __getattr__(self, name: str) -> Any:
        if self._loop is None:
            raise AttributeError(f"trainer.fit_loop has no {name!r} before a fit runs")
        return getattr(self._loop, name)


class _ValidationView:
    def __init__(self, trainer: leyden.Trainer) -> None:
        self._trainer = trainer

    @property
    def _data_source(self) -> _ValidationView:
        return self

    @property
    def max_batches(self) -> list[Any]:
        """Batches of each loader."""
        return list(self._trainer.num_val_batches)

    def is_defined(self) -> bool:
        """Whether there is data to validate with."""
        trainer = self._trainer
        if trainer.given_val is not None:
            return True
        return any(is_overridden("val_dataloader", owner) for owner in (trainer.datamodule, trainer.module) if owner is not None)


def _counts(ready: int, processed: int, completed: int) -> SimpleNamespace:
    def one() -> SimpleNamespace:
        return SimpleNamespace(ready=ready, started=ready, processed=processed, completed=completed)

    return SimpleNamespace(current=one(), total=one())


class CheckpointConnector:
    """Makes checkpoints of a Trainer, for whoever writes them itself."""

    def __init__(self, trainer: leyden.Trainer) -> None:
        self.trainer = trainer

    def dump_checkpoint(self, weights_only: bool | None = None) -> dict[str, Any]:
        """What ``trainer.save_checkpoint`` would write."""
        return gather(self.trainer, bool(weights_only))


def get_init_args(frame: FrameType) -> dict[str, Any]:
    """The arguments that the ``__init__`` of a frame was called with, those of ``**kwargs`` among them, without ``self``."""
    found = inspect.getargvalues(frame)
    # inspect's args leave out those after a *
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    arguments = {name: found.locals[name] for name in names[1:]}
    arguments.update(found.locals[found.keywords] if found.keywords else {})
    return arguments


def get_standard_metrics(trainer: leyden.Trainer) -> dict[str, Any]:
    """What every progress bar shows: the version of the logger's directory, as ``v_num``."""
    version = getattr(trainer.logger, "version", None)
    if version is None or version == "":
        return {}
    return {"v_num": version[-4:] if isinstance(version, str) else version}


def _load_from_checkpoint(
    cls: type[leyden.Module], checkpoint_path: Any, map_location: Any = None, hparams_file: Any = None, *args: Any, **kwargs: Any
) -> Any:
    """``cls.load_from_checkpoint`` as the base class has it: classes that override it call this."""
    load: Any = vars(leyden.Module)["load_from_checkpoint"].__func__
    return load(cls, checkpoint_path, map_location, hparams_file, *args, **kwargs)
