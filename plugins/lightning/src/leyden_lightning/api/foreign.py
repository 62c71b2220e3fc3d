"""Parts made for Lightning that are handed to the port: what works by its methods is taken, the rest is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import leyden

_ROOTS = ("lightning", "pytorch_lightning", "lightning_fabric")
_WAY_OUT = "import it from leyden_lightning, or run the script with `leyden run`, so that there is one Lightning only"

_UNCALLED = {
    leyden.Strategy: (
        "training_step", "validation_step", "test_step", "predict_step", "pre_backward", "backward", "post_backward",
        "optimizer_step", "batch_to_device", "process_dataloader", "model_to_device", "configure_ddp",
    ),
    leyden.Precision: (
        "pre_backward", "post_backward", "optimizer_step", "clip_gradients", "convert_input", "convert_output",
        "forward_context", "train_step_context", "val_step_context",
    ),
}  # fmt: skip
"""Methods of Lightning's that leyden's parts have not: a class that overrides one waits for calls that never come."""
_INSTEAD = {
    leyden.Strategy: "wrap_step(module, name), which returns the function that is called for each batch",
    leyden.Precision: "wrap_step(step, device_type), backward(loss), unscale(optimizer) or step(optimizer, closure)",
}


def foreign_classes(value: Any) -> list[type]:
    """The classes of an installed Lightning that an object's class is or derives from; none is imported for that."""
    return [cls for cls in type(value).__mro__ if cls.__module__.partition(".")[0] in _ROOTS]


def _names(value: Any) -> set[str]:
    return {cls.__name__ for cls in foreign_classes(value)}


def refuse_foreign(value: Any, argument: str) -> None:
    """Refuses a module, a data module or a part whose base class is an installed Lightning's.

    Raises:
        TypeError: it is one.
    """
    found = foreign_classes(value)
    if found:
        kind = type(value).__qualname__
        what = f"{kind} is" if found[0] is type(value) else f"{kind} derives from"
        raise TypeError(
            f"{argument}: {what} {found[0].__module__}.{found[0].__qualname__} of the installed Lightning, which works with that "
            f"one's Trainer only; {_WAY_OUT}"
        )


def taken(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The Trainer's arguments, with an installed Lightning's loggers wrapped.

    Callbacks that derive from that one's ``Callback`` alone are taken as they are: a callback is its hooks.

    Raises:
        TypeError: a callback, or another part, has an installed Lightning's code that needs its Trainer; or a strategy or a
            precision of one's own overrides what only Lightning calls.
    """
    found = dict(arguments)
    for name in ("callbacks", "logger", "plugins"):
        given = found.get(name)
        if isinstance(given, list | tuple):
            found[name] = [_part(value, name, f"{name}[{index}]") for index, value in enumerate(given)]
        else:
            found[name] = _part(given, name, name)
    for name in ("strategy", "accelerator", "profiler"):
        refuse_foreign(found.get(name), name)
    for name in ("strategy", "precision", "plugins"):
        given = found.get(name)
        for value in given if isinstance(given, list | tuple) else (given,):
            _refuse_uncalled(value, name)
    return {name: value for name, value in found.items() if name in arguments}


def _refuse_uncalled(value: Any, argument: str) -> None:
    for base, names in _UNCALLED.items():
        if not isinstance(value, base):
            continue
        for cls in type(value).__mro__:
            if cls.__module__.partition(".")[0].startswith("leyden") or cls is object:
                continue
            for name in names:
                if name in vars(cls):
                    raise TypeError(
                        f"{argument}: {cls.__qualname__}.{name} overrides a method of Lightning's that would never be called "
                        f"here; override {_INSTEAD[base]}"
                    )


def _part(value: Any, name: str, argument: str) -> Any:
    if name == "logger" and "Logger" in _names(value):
        return ForeignLogger(value)
    if name == "callbacks" and _names(value) == {"Callback"} and type(value).__name__ != "Callback":
        return value
    refuse_foreign(value, argument)
    return value


class ForeignLogger(leyden.Logger):
    """A logger of an installed Lightning. Everything that leyden's loggers do not have is read from it.

    The graph of the module is not drawn: it asks for that Lightning's modules.

    Args:
        logger: the logger.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        vars(self)["name"] = str(logger.name)
        self.trainer: Any = None

    def connect(self, trainer: leyden.Trainer) -> None:
        """Remembers the run, whose checkpoint callback the logger is given."""
        self.trainer = trainer

    @property
    def log_dir(self) -> str | None:
        """The directory of the logger's run."""
        found = getattr(self.logger, "log_dir", None)
        if found is None and self.logger.save_dir is not None:
            version = self.logger.version
            version = version if isinstance(version, str) else f"version_{version}"
            found = str(Path(self.logger.save_dir) / str(self.logger.name) / version)
        return found

    @property
    def experiment(self) -> Any:
        """The client's own object."""
        return self.logger.experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Hands them on."""
        self.logger.log_metrics(dict(metrics), step)

    def log_hyperparams(self, params: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Hands them on."""
        self.logger.log_hyperparams(dict(params), *(() if metrics is None else (dict(metrics),)))

    def after_save_checkpoint(self, path: str) -> None:
        """Hands on the callback that wrote it."""
        callback = self.trainer.checkpoint_callback
        if callback is not None:
            self.logger.after_save_checkpoint(callback)

    def save(self) -> None:
        """Saves."""
        self.logger.save()

    def finalize(self, status: str) -> None:
        """Ends its run."""
        self.logger.finalize(status)

    def __getattr__(self, name: str) -> Any:
        if name == "logger":  # not there yet, in a copy
            raise AttributeError(name)
        return getattr(self.logger, name)
