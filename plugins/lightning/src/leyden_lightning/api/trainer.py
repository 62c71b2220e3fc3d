"""Lightning's Trainer: leyden's, with the names, the defaults and the counting of Lightning 2.6."""

from __future__ import annotations

import inspect
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import leyden
import torch
from leyden.messages import did_you_mean
from leyden.plugins import available

from leyden_lightning.api import argparsing, callbacks
from leyden_lightning.api.exceptions import MisconfigurationException, lightnings_errors
from leyden_lightning.api.foreign import refuse_foreign, taken
from leyden_lightning.api.inside import CheckpointConnector, FitLoopView, _AcceleratorConnector
from leyden_lightning.api.loggers import AfterSave, DummyLogger, default_logger, takes_the_callback
from leyden_lightning.legacy import arguments as older
from leyden_lightning.legacy.attributes import precision_name
from leyden_lightning.legacy.named_precision import named, unnamed
from leyden_lightning.legacy.notices import definition, legacy, strict
from leyden_lightning.legacy.running import LightningRun
from leyden_lightning.legacy.users import own

_OURS = {
    "carry_accumulation", "compile", "environment", "checkpoint_io", "loader_key_template", "on_interrupt", "nan_policy",
    "on_plugin_error", "grace_s", "auto_resume",
}  # fmt: skip
"""Arguments of leyden's Trainer that Lightning has not."""

_DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(leyden.Trainer.__init__).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in _OURS
}
"""The arguments of Lightning 2.6 with their defaults."""

_GENERATIONS = ("2.6",)

_GONE = {
    "logger_connector": "values are in trainer.callback_metrics, logged_metrics and progress_bar_metrics",
    "accelerator_connector": "the parts of a run are trainer.accelerator, trainer.strategy and trainer.precision",
    "checkpoint_connector": "write trainer.save_checkpoint(path), and trainer.fit(model, ckpt_path=path)",
    "data_connector": "loaders are trainer.train_dataloader, val_dataloaders, test_dataloaders and predict_dataloaders",
    "signal_connector": "write Trainer(on_interrupt=...) to say what Ctrl-C does",
    "train_loop": "the counters are trainer.progress",
    "evaluation_loop": "the counters are trainer.progress",
    "amp_backend": "there is torch's own mixed precision only",
    "tuning": "Tuner(trainer) tries things out on copies",
}


def _signature() -> inspect.Signature:
    kinds = inspect.Parameter
    parameters = [kinds("self", kinds.POSITIONAL_OR_KEYWORD)]
    parameters += [kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in _DEFAULTS.items()]
    return inspect.Signature([*parameters, kinds("others", kinds.VAR_KEYWORD)])


class Trainer(leyden.Trainer):
    """Runs modules as Lightning 2.6 does, and understands what older ones said.

    Takes the arguments of Lightning's Trainer, of every release, and those of :class:`leyden.Trainer`. Arguments that are not
    given come from variables ``PL_TRAINER_<NAME>``. ``strict_api="2.6"`` makes everything older an error.
    ``legacy_outputs="optimizer_major"`` hands epoch ends the outputs of several optimizers as 1.0 to 1.7 did, by optimizer and
    then by batch; without it they come by batch and then by optimizer.

    Raises:
        MisconfigurationException: an argument is wrong; it is also the ValueError, TypeError and so on of leyden.
    """

    counts_empty_steps = True
    """Whether a batch for which ``training_step`` returned None is a step."""
    refuses_hyperparameters = False
    """Hyperparameters that a checkpoint cannot hold are left out of it with a warning, and refuse no run."""

    def __init__(self, *positional: Any, **arguments: Any) -> None:
        if positional:
            names = ", ".join(f"{name}={value!r}" for name, value in zip(("logger", "..."), positional[:1], strict=False))
            raise TypeError(
                f"Trainer({positional[0]!r}, ...): its arguments have names, and their order changed between releases; "
                f"write Trainer({names}), or whichever argument was meant"
            )
        strict_api = arguments.pop("strict_api", None)
        if strict_api not in (None, *_GENERATIONS):
            raise ValueError(f"Trainer(strict_api={strict_api!r}): expected None or '2.6'")
        self.strict_api: str | None = strict_api
        legacy_outputs = arguments.pop("legacy_outputs", None)
        if legacy_outputs not in (None, "optimizer_major"):
            raise ValueError(f"Trainer(legacy_outputs={legacy_outputs!r}): expected None or 'optimizer_major'")
        self.legacy_outputs: str | None = legacy_outputs
        given = {**argparsing.environment_defaults(Trainer, os.environ), **arguments}
        with self._generation(), lightnings_errors():
            translation = older.Translation(given)
            given = translation.run()
            given = taken(given)
            given.setdefault("on_interrupt", "return")
            if given.get("logger", None) in (None, True) and not given.get("fast_dev_run") and not given.get("barebones"):
                given["logger"] = default_logger() or given.get("logger")
            if given.get("enable_model_summary") is False and _has_summary(given.get("callbacks")):
                del given["enable_model_summary"]  # Lightning's argument is about its own summary only
            for name, value in _DEFAULTS.items():  # what may be None in Lightning and not in leyden
                if given.get(name) is None and value is not None and name != "check_val_every_n_epoch":
                    given.pop(name, None)
            self.resume_from_checkpoint: Any = None
            self.truncated_bptt_steps: int | None = None
            self.automatic_optimization: bool | None = None
            self.prepare_data_per_node: bool | None = None
            self.multiple_trainloader_mode: str | None = None
            self.auto_lr_find: Any = False
            self.auto_scale_batch_size: Any = False
            vars(self).update(translation.kept)
            super().__init__(**given)
            if self.fast_dev_run:
                self._stand_ins(given)
            for logger in self.loggers:
                if takes_the_callback(logger):
                    vars(logger)["after_save_checkpoint"] = AfterSave(logger, self)
            for callback in self.callbacks:
                for name in ("on_init_start", "on_init_end"):
                    hook = own(callback, name)
                    if callable(hook):
                        legacy(
                            f"{type(callback).__qualname__}.{name}", "setup, which is called with stage='fit'", definition(hook)
                        )
                        hook(self)

    def _stand_ins(self, given: Mapping[str, Any]) -> None:
        """Gives a run that writes nothing what code asks for its experiment, and for its best checkpoint's path."""
        if given.get("logger") not in (False, []):
            self.loggers = [DummyLogger()]
        saves = any(plugin.name == "checkpoint" for plugin in available(leyden.Callback.group))
        if saves and given.get("enable_checkpointing") is not False and not self.checkpoint_callbacks:
            self.callbacks.append(callbacks.ModelCheckpoint())
            self.bus.register(self.callbacks[-1], role="callback")

    def driving_parts(self) -> tuple[leyden.Component, ...]:
        """Accelerator, strategy and the precision itself, whose name has no hooks."""
        return self.accelerator, self.strategy, self.precision_plugin

    def _register_parts(self) -> None:
        super()._register_parts()
        self.bus.register(LightningRun(), name="Lightning's keys and counts")

    __init__.__signature__ = _signature()  # type: ignore[attr-defined]  # what inspect reads

    @contextmanager
    def _generation(self) -> Iterator[None]:
        token = strict.set(self.strict_api is not None)
        try:
            yield
        finally:
            strict.reset(token)

    @contextmanager
    def _run(self, model: Any, datamodule: Any) -> Iterator[None]:
        with self._generation(), lightnings_errors():
            refuse_foreign(model, "model")
            refuse_foreign(datamodule, "datamodule")
            _refuse_compiled(model)
            yield

    # ---- what to run ----

    def fit(
        self,
        model: Any = None,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
        **of_old: Any,
    ) -> leyden.History:
        """As :meth:`leyden.Trainer.fit`; takes ``train_dataloader`` too, and continues ``resume_from_checkpoint``."""
        with self._run(model, datamodule):
            train_dataloaders = _one_of("fit", "train_dataloaders", train_dataloaders, of_old, "train_dataloader")
            _refuse_others("fit", of_old)
            if ckpt_path is None:
                ckpt_path = self.resume_from_checkpoint
            if self.multiple_trainloader_mode is not None and isinstance(train_dataloaders, list | tuple | dict):
                train_dataloaders = leyden.CombinedLoader(train_dataloaders, self.multiple_trainloader_mode)
            return super().fit(
                model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, _plain_weights("fit", weights_only)
            )

    def validate(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
        **of_old: Any,
    ) -> list[dict[str, float]]:
        """As :meth:`leyden.Trainer.validate`; takes ``val_dataloaders`` too."""
        with self._run(model, datamodule):
            dataloaders = _one_of("validate", "dataloaders", dataloaders, of_old, "val_dataloaders")
            _refuse_others("validate", of_old)
            weights_only = _plain_weights("validate", weights_only)
            return super().validate(model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    def test(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
        **of_old: Any,
    ) -> list[dict[str, float]]:
        """As :meth:`leyden.Trainer.test`; takes ``test_dataloaders`` too."""
        with self._run(model, datamodule):
            dataloaders = _one_of("test", "dataloaders", dataloaders, of_old, "test_dataloaders")
            _refuse_others("test", of_old)
            weights_only = _plain_weights("test", weights_only)
            return super().test(model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    def predict(
        self,
        model: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        return_predictions: bool | None = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
        max_bytes: float = 8 * 2**30,
    ) -> list[Any] | None:
        """As :meth:`leyden.Trainer.predict`."""
        with self._run(model, datamodule):
            weights_only = _plain_weights("predict", weights_only)
            return super().predict(model, dataloaders, datamodule, return_predictions, ckpt_path, weights_only, max_bytes)

    def tune(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What ``auto_scale_batch_size`` and ``auto_lr_find`` asked for, as 1.x did it.

        Returns:
            ``{"scale_batch_size": size, "lr_find": finder}``, of those that were asked for.
        """
        from leyden_lightning.api.resolution import resolve

        legacy("trainer.tune()", "Tuner(trainer).lr_find(model), and Tuner(trainer).scale_batch_size(model)")
        found: dict[str, Any] = {}
        options = {**kwargs.pop("scale_batch_size_kwargs", {})}, {**kwargs.pop("lr_find_kwargs", {})}
        tuner = resolve("Tuner")(self)
        if self.auto_scale_batch_size:
            mode = self.auto_scale_batch_size if isinstance(self.auto_scale_batch_size, str) else "power"
            found["scale_batch_size"] = tuner.scale_batch_size(model, *args, mode=mode, **options[0], **kwargs)
        if self.auto_lr_find:
            name = {"attr_name": self.auto_lr_find} if isinstance(self.auto_lr_find, str) else {}
            found["lr_find"] = tuner.lr_find(model, *args, **name, **options[1], **kwargs)
        return found

    # ---- command lines ----

    @classmethod
    def add_argparse_args(cls, parent_parser: ArgumentParser, **kwargs: Any) -> ArgumentParser:
        """Adds an option for each of the Trainer's arguments to a parser, and returns it."""
        return argparsing.add_argparse_args(cls, parent_parser, **kwargs)

    @classmethod
    def from_argparse_args(cls, args: Namespace | ArgumentParser, **kwargs: Any) -> Trainer:
        """Builds a Trainer from a namespace; ``kwargs`` go before its entries, what is no argument is ignored."""
        built: Trainer = argparsing.from_argparse_args(cls, args, **kwargs)
        return built

    @classmethod
    def parse_argparser(cls, arg_parser: ArgumentParser | Namespace) -> Namespace:
        """The namespace of a parser."""
        return argparsing.parse_argparser(cls, arg_parser)

    @classmethod
    def match_env_arguments(cls) -> Namespace:
        """The arguments that ``PL_TRAINER_<NAME>`` variables give."""
        return Namespace(**argparsing.environment_defaults(cls, os.environ))

    @classmethod
    def default_attributes(cls) -> dict[str, Any]:
        """The arguments with their defaults."""
        return dict(_DEFAULTS)

    # ---- what users read ----

    @property
    def precision(self) -> Any:
        """The name of the run's precision, a str such as ``"16-mixed"``; the precision's own methods are called through it."""
        return named(precision_name(self), self.precision_plugin)

    @precision.setter
    def precision(  # pyright: ignore[reportIncompatibleVariableOverride]  # what leyden's Trainer sets is the precision itself
        self, precision: Any
    ) -> None:
        vars(self)["precision"] = unnamed(precision)

    @property
    def precision_plugin(self) -> leyden.Precision:
        """The number formats of the run."""
        component: leyden.Precision = vars(self)["precision"]
        return component

    @property
    def global_step(self) -> int:
        """Steps of all optimizers so far: with two that step at each batch, twice as many as batches."""
        return sum(self.progress.optimizer_steps) or self.progress.global_step

    @property
    def batches_stepped(self) -> int:
        """Training steps that updated anything, whatever the optimizers: the x axis of the loggers."""
        return self.progress.global_step

    @property
    def total_batch_idx(self) -> int:
        """The index of the last training batch, over all epochs."""
        return self.progress.total_batches - 1

    @property
    def logged_metrics(self) -> dict[str, Any]:
        """What the loggers got, as tensors, and as it is now: a hook at an epoch's end sees this epoch's."""
        latest = self.callback_metrics
        return {name: latest[name] if name in latest else torch.tensor(value) for name, value in super().logged_metrics.items()}

    @property
    def training(self) -> bool:
        """Whether training is running; not while a validation inside of a fit is."""
        return bool(vars(self).get("training")) and not self.validating

    @training.setter
    def training(self, running: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # core sets it as before
        vars(self)["training"] = running

    @property
    def fit_loop(self) -> Any:
        """leyden's loop for leyden; whoever else asks gets it under the names that Lightning's had."""
        loop = vars(self)["fit_loop"]
        asking = str(sys._getframe(1).f_globals.get("__name__", ""))
        return loop if asking.partition(".")[0].startswith("leyden") else FitLoopView(self, loop)

    @fit_loop.setter
    def fit_loop(self, loop: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # core sets it as before
        vars(self)["fit_loop"] = loop

    @property
    def _accelerator_connector(self) -> _AcceleratorConnector:
        # of Lightning's inside, but optuna's callback asks it whether there are other processes
        return _AcceleratorConnector.of(self)

    @property
    def _checkpoint_connector(self) -> CheckpointConnector:
        # likewise, but mlflow's callback makes its checkpoints with it
        return CheckpointConnector(self)

    @property
    def training_type_plugin(self) -> leyden.Strategy:
        """The strategy, as 1.x called it."""
        return self.strategy

    @property
    def prediction_writer_callbacks(self) -> list[Any]:
        """The callbacks that write predictions."""
        return [callback for callback in self.callbacks if hasattr(callback, "write_on_batch_end")]

    @property
    def lr_schedulers(self) -> list[dict[str, Any]]:
        """The schedulers as 1.x had them: dicts with ``scheduler``, ``interval``, ``frequency``, ``monitor`` and so on."""
        return [vars(config) for config in self.lr_scheduler_configs]

    @property
    def num_gpus(self) -> int:
        """CUDA devices of this node that the run uses."""
        return self.num_devices if self.strategy.device.type == "cuda" else 0

    gpus = num_gpus

    @property
    def num_processes(self) -> int:
        """Processes of this node."""
        return self.num_devices

    @property
    def root_gpu(self) -> int | None:
        """The first CUDA device of the run, or None."""
        return self.device_ids[0] if self.num_gpus else None

    @property
    def data_parallel_device_ids(self) -> list[int] | None:
        """The CUDA devices of the run, or None."""
        return list(self.device_ids) if self.num_gpus else None

    @property
    def progress_bar_dict(self) -> dict[str, Any]:
        """What stands at the end of the progress bar."""
        return dict(self.progress_bar_metrics)

    @property
    def weights_save_path(self) -> str:
        """Where checkpoints go."""
        callback = self.checkpoint_callback
        return (getattr(callback, "dirpath", None) if callback else None) or self.default_root_dir

    def __getattr__(self, name: str) -> Any:
        if name in _GONE:
            raise AttributeError(f"trainer.{name} was of Lightning's inside: {_GONE[name]}")
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{did_you_mean(name, dir(type(self)))}")


def _refuse_compiled(model: Any) -> None:
    original = getattr(model, "_orig_mod", None)
    if isinstance(original, leyden.Module):
        raise TypeError(
            f"model: torch.compile made this of {type(original).__name__}; give the module itself, and Trainer(compile=True), or "
            f"a dict of torch.compile's options"
        )


def _has_summary(callbacks: Any) -> bool:
    given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    return any(getattr(callback, "role", "") == "model_summary" for callback in given)


def _one_of(method: str, name: str, value: Any, of_old: dict[str, Any], old: str) -> Any:
    if old not in of_old:
        return value
    given = of_old.pop(old)
    if given is None:
        return value
    legacy(f"trainer.{method}({old}=...)", f"trainer.{method}({name}=...)")
    if value is not None:
        raise MisconfigurationException(f"trainer.{method}({name}=..., {old}=...): both are the loaders; leave out {old}")
    return given


def _refuse_others(method: str, others: Mapping[str, Any]) -> None:
    for name in others:
        known = inspect.signature(getattr(Trainer, method)).parameters
        raise TypeError(f"trainer.{method}() has no argument {name!r}{did_you_mean(name, known)}")


def _plain_weights(method: str, weights_only: bool | None) -> bool | None:
    if weights_only is False:
        legacy(f"trainer.{method}(weights_only=False)", "nothing: leyden reads a checkpoint as plain data, whatever wrote it")
        return None
    return weights_only
