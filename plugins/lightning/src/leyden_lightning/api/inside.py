"""What packages read of Lightning's inside, although it was never meant for them."""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any

import leyden
from leyden.checkpoint.save import gather

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

    ``epoch_loop.val_loop._data_source.is_defined()`` says whether the run validates; everything else is asked of leyden's
    own loop.
    """

    def __init__(self, trainer: leyden.Trainer, loop: Any) -> None:
        self._trainer, self._loop = trainer, loop

    @property
    def epoch_loop(self) -> FitLoopView:
        """Itself: there is one loop."""
        return self

    val_loop = epoch_loop
    _data_source = epoch_loop

    def is_defined(self) -> bool:
        """Whether there is data to validate with."""
        trainer = self._trainer
        if trainer.given_val is not None:
            return True
        return any(is_overridden("val_dataloader", owner) for owner in (trainer.datamodule, trainer.module) if owner is not None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


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
