"""The loggers that write files, with Lightning's arguments and directory."""

from __future__ import annotations

import inspect
import sys
from importlib.util import find_spec
from typing import Any

import leyden
from leyden.plugins import available, find

from leyden_lightning.api.missing import missing
from leyden_lightning.api.rank_zero import DummyExperiment
from leyden_lightning.api.stand_in import meta_of, stand_in

DIRECTORY = "lightning_logs"


class DummyLogger(leyden.Logger):
    """What a Trainer with ``fast_dev_run`` has in place of its loggers: takes everything and keeps nothing."""

    name = ""
    version = ""
    save_dir = None

    @property
    def experiment(self) -> DummyExperiment:
        """Takes any call."""
        return DummyExperiment()

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("log_", "watch", "unwatch")):  # as log_image of some loggers
            return DummyExperiment().nop
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _base(name: str) -> Any:
    plugin = find(leyden.Logger, name)
    assert plugin is not None  # core registers none by name
    return plugin.load()


def _tensorboard() -> type:
    base: Any = _base("tensorboard")

    class TensorBoardLogger(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(
            self,
            save_dir: Any = None,
            name: str | None = DIRECTORY,
            version: int | str | None = None,
            log_graph: bool = False,
            default_hp_metric: bool | None = True,
            prefix: str = "",
            sub_dir: Any = None,
            **kwargs: Any,
        ) -> None:
            kwargs.pop("comment", None)  # which has no effect in Lightning either, as the directory is given
            super().__init__(save_dir, name, version, log_graph, default_hp_metric, prefix, sub_dir, **kwargs)

    return TensorBoardLogger


def _csv() -> type:
    base: Any = _base("csv")

    class CSVLogger(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(
            self,
            save_dir: Any = None,
            name: str | None = DIRECTORY,
            version: int | str | None = None,
            prefix: str = "",
            flush_logs_every_n_steps: int = 100,
            **kwargs: Any,
        ) -> None:
            # A record is written at once: 100 of Lightning's are kept in memory, and lost if the process is killed.
            super().__init__(save_dir, name, version, prefix, **kwargs)
            self.flush_logs_every_n_steps = flush_logs_every_n_steps

        def _row(self, record: Any) -> dict[str, Any]:
            return {"step": record.step, **record.values}  # Lightning's table has no column of times

    return CSVLogger


_MAKERS = {"TensorBoardLogger": ("tensorboard", _tensorboard), "CSVLogger": ("csv", _csv)}


def __getattr__(name: str) -> Any:
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    registered, make = _MAKERS[name]
    if not any(plugin.name == registered for plugin in available(leyden.Logger.group)):
        return missing(name, f"no installed distribution has the logger {registered!r}; run: pip install leyden-loggers")
    made = stand_in(make(), __name__)
    setattr(sys.modules[__name__], name, made)
    return made


def default_logger() -> Any:
    """The logger of a Trainer that was given none: TensorBoard where its client is installed, else CSV; None without either."""
    names = {plugin.name for plugin in available(leyden.Logger.group)}
    module = sys.modules[__name__]
    if "tensorboard" in names and find_spec("tensorboard"):
        return module.TensorBoardLogger()
    return module.CSVLogger() if "csv" in names else None


def takes_the_callback(logger: leyden.Logger) -> bool:
    """Whether a logger's ``after_save_checkpoint`` is Lightning's: given the callback that saved, and not the path."""
    if type(logger).after_save_checkpoint is leyden.Logger.after_save_checkpoint:
        return False
    parameters = [parameter.name for parameter in inspect.signature(logger.after_save_checkpoint).parameters.values()]
    return bool(parameters) and "path" not in parameters[0]


class AfterSave:
    """Stands for such a method of one logger, and hands on the callback."""

    def __init__(self, logger: leyden.Logger, trainer: leyden.Trainer) -> None:
        self.logger, self.trainer = logger, trainer

    def __call__(self, path: str) -> None:
        """Tells the logger of a checkpoint; not where no callback saves any."""
        method: Any = type(self.logger).after_save_checkpoint
        if self.trainer.checkpoint_callback is not None:
            method(self.logger, self.trainer.checkpoint_callback)
