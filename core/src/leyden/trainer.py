"""Runs a module: fit, validate, test, predict."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from leyden import arguments, runs
from leyden.accelerator import Accelerator
from leyden.bus import Bus
from leyden.callback import Callback
from leyden.checkpoint.newest import find_checkpoint
from leyden.checkpoint.save import gather, write
from leyden.checkpoint_io import CheckpointIO
from leyden.component import Component
from leyden.data.loaders import INFINITE, has_source
from leyden.data.stages import load_train
from leyden.datamodule import DataModule
from leyden.environment import ClusterEnvironment
from leyden.finite import parameters_finite
from leyden.interrupts import in_notebook, stop
from leyden.logger import Logger
from leyden.loops.manual_step import ManualStep
from leyden.loops.step import TrainStep
from leyden.messages import nearest, notify, quoted, shown, table
from leyden.metrics.history import History
from leyden.metrics.store import Metrics
from leyden.module import Module, is_overridden
from leyden.optim.configure import SchedulerConfig
from leyden.plugins import catalog, hook_plugins, resolve
from leyden.precision import Precision
from leyden.profiler import Profiler
from leyden.progress import Progress
from leyden.quarantine import Quarantine
from leyden.returned import returned
from leyden.run_state import RunState
from leyden.selection import (
    choose_accelerator,
    choose_callbacks,
    choose_environment,
    choose_loggers,
    choose_strategy,
    number_of_processes,
    one_of_each,
)
from leyden.settings import Settings
from leyden.states import TrainerState

if TYPE_CHECKING:
    from leyden.checkpoint.verify import ResumeReport
    from leyden.explain import Plan

_LAUNCHED = "what the function it runs returned on rank 0"

_LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
_STEPS = {"fit": "training_step", "validate": "validation_step", "test": "test_step", "predict": "predict_step"}


class Trainer(Settings, RunState):
    """Runs modules. Every part can be given as a name, as ``{name: options}`` or as an object."""

    refuses_hyperparameters: bool = True
    """Whether a run that writes checkpoints refuses hyperparameters that those cannot hold; else they are left out, as
    is what hooks add to a checkpoint and is not plain data."""

    def __init__(
        self,
        *,
        accelerator: Any = "auto",
        strategy: Any = "auto",
        devices: Any = "auto",
        num_nodes: int = 1,
        precision: Any = None,
        logger: Any = None,
        callbacks: Any = None,
        fast_dev_run: bool | int = False,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: Any = None,
        limit_train_batches: float | None = None,
        limit_val_batches: float | None = None,
        limit_test_batches: float | None = None,
        limit_predict_batches: float | None = None,
        overfit_batches: float = 0.0,
        val_check_interval: Any = None,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int | None = None,
        log_every_n_steps: int | None = None,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None,
        accumulate_grad_batches: int = 1,
        carry_accumulation: bool = False,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
        deterministic: bool | str | None = None,
        benchmark: bool | None = None,
        inference_mode: bool = True,
        compile: bool | dict[str, Any] | None = None,
        use_distributed_sampler: bool = True,
        profiler: Any = None,
        detect_anomaly: bool = False,
        barebones: bool = False,
        plugins: Any = None,
        sync_batchnorm: bool = False,
        reload_dataloaders_every_n_epochs: int = 0,
        default_root_dir: str | os.PathLike[str] | None = None,
        enable_autolog_hparams: bool = True,
        model_registry: str | None = None,
        environment: Any = "auto",
        checkpoint_io: Any = None,
        loader_key_template: str = "{name}/{loader}",
        on_interrupt: str | None = None,
        nan_policy: str | None = None,
        on_plugin_error: str | Mapping[str, str] | None = None,
        grace_s: float | None = None,
        auto_resume: bool = False,
        **unknown: Any,
    ) -> None:
        """Chooses the parts of its runs; nothing is opened, moved or started.

        Args:
            accelerator: which kind of device; ``"auto"`` takes the best that is there.
            strategy: how devices share the work; ``"auto"`` is one device, or what suits several.
            devices: how many (``2``, ``-1`` for all), or which (``[0, 2]``, ``"0,2"``).
            num_nodes: how many machines take part.
            precision: number formats, such as ``"bf16-mixed"``; None is ``"32-true"``.
            logger: one or a list; None or True is the default of what is installed, False is none.
            callbacks: one or a list, called in that order.
            fast_dev_run: True or a number of batches: run that many of everything once, with no logger and no checkpoint.
            max_epochs: stop after so many; -1 is never. 1000 if neither this nor ``max_steps`` is given.
            min_epochs: ``should_stop`` is not heeded before.
            max_steps: stop after so many optimizer steps; -1 is never.
            min_steps: ``should_stop`` is not heeded before.
            max_time: stop after a timedelta, a dict of its arguments, or ``"DD:HH:MM:SS"``.
            limit_train_batches: batches (int) or fraction (float) of an epoch; likewise for the other stages.
            limit_val_batches: see above.
            limit_test_batches: see above.
            limit_predict_batches: see above.
            overfit_batches: train and validate on so many batches (int) or such a fraction (float), the same samples each epoch.
            val_check_interval: validate every so many batches (int), fraction of an epoch (float) or time, or with a unit, such
                as ``"500 steps"``, ``"2 epochs"``, ``"1e6 samples"``, ``"30 min"``; None is each epoch. Other intervals take
                units as well.
            check_val_every_n_epoch: validate only in every so many epochs; None counts batches across epochs.
            num_sanity_val_steps: validation batches of each loader before training, -1 for all; None is 2.
            log_every_n_steps: optimizer steps between two records of step values, 0 for none; None is 50.
            enable_checkpointing: whether a default checkpoint callback is added; None is yes, if one is installed.
            enable_progress_bar: likewise for a progress bar.
            enable_model_summary: likewise for a model summary.
            accumulate_grad_batches: batches to an optimizer step; the last window of an epoch may be shorter.
            carry_accumulation: True carries a window that an epoch's end cuts short over into the next epoch, False steps it;
                that of the last of ``max_epochs`` is always stepped.
            gradient_clip_val: the largest norm, or value, of a step's gradients.
            gradient_clip_algorithm: ``"norm"`` (default) or ``"value"``.
            deterministic: True refuses operations that are not deterministic, ``"warn"`` names them.
            benchmark: sets ``torch.backends.cudnn.benchmark`` during runs.
            inference_mode: whether evaluation uses ``torch.inference_mode``; validation inside fit never does.
            compile: whether step functions are compiled, with ``torch.compile``'s defaults or a dict of its options.
            use_distributed_sampler: whether several processes deal out the samples of each loader among them; False has each
                read what its own loader gives.
            profiler: where time goes.
            detect_anomaly: finds the operation that made a NaN gradient, slowly.
            barebones: no logging at all, no checkpoint, bar, summary or sanity check.
            plugins: objects: at most one each of Precision, CheckpointIO and ClusterEnvironment; others go on the bus.
            sync_batchnorm: whether batch norm sees the batches of all processes.
            reload_dataloaders_every_n_epochs: ask for new loaders every so many epochs; 0 is never.
            default_root_dir: where logs and checkpoints go; None is the current directory.
            enable_autolog_hparams: whether hyperparameters are given to loggers.
            model_registry: accepted where it is None, for existing code.
            environment: which cluster environment; ``"auto"`` takes the one that detects itself.
            checkpoint_io: how checkpoint files are written and read.
            loader_key_template: what the keys of values are made of where an evaluation reads several loaders; ``{name}`` is the
                name given to ``log``, ``{loader}`` the loader's key in a dict, else ``dataloader_idx_N``.
            on_interrupt: what Ctrl-C makes ``fit`` do after the running batch: ``"raise"`` KeyboardInterrupt or ``"return"`` with
                ``trainer.interrupted`` set; None is ``"return"`` in notebooks. A second Ctrl-C stops at once.
            nan_policy: what becomes of a fit whose numbers are not finite. None looks, at no cost to a step, at logged values
                when they are read, and where one is not finite, at the end of each epoch and before a checkpoint, at the
                parameters; if those are not finite either it stops. ``"stop"`` looks at every loss at the next log point and
                stops. ``"skip"`` leaves out updates whose loss or gradients are not finite, ``"strict"`` stops before them;
                both wait for the device once a step. ``"off"`` goes on.
            grace_s: seconds after SIGTERM within which the running batch must have ended and the state been saved; then the run
                ends with what was saved before. None waits for the batch.
            auto_resume: whether ``fit`` without a ``ckpt_path`` goes on from the newest whole checkpoint of the last run, in the
                ``dirpath`` of a checkpoint callback or below ``default_root_dir``.
            on_plugin_error: what becomes of a run when a logger or a callback fails after the first step: ``"raise"`` ends it,
                ``"quarantine"`` says so, goes on without the part that failed and lists it at the end (``trainer.quarantine``);
                or a dict of these by ``"logger"`` and ``"callback"``. None is
                ``{"logger": "quarantine", "callback": "raise"}``. What fails before the first step ends the run.
            unknown: offered to plug-ins; what none of them knows is an error.

        Raises:
            TypeError: an argument's type is wrong, or there is no such argument.
            ValueError: an argument's value is wrong, or parts do not go together.
            LookupError: a name is unknown, or two distributions claim it.
        """
        given = {key: value for key, value in locals().items() if key not in ("self", "unknown", "__class__")}
        self.choices = dict(given)
        """The arguments as they were given."""
        self.bus = Bus()
        self._register_extensions()
        if unknown:
            translated: dict[str, Any] = {}
            answers: Any = self.bus.hook.translate_arguments(arguments=unknown)  # a list: pluggy asks every plug-in
            for answer in answers:
                translated.update(answer)
            arguments.refuse_unknown(unknown, given)
            arguments.refuse_unknown({key: value for key, value in translated.items() if key not in given}, given)
            given.update(translated)
        arguments.read_units(given)
        arguments.fill_defaults(given, Trainer.__init__)
        arguments.check(given)
        Settings.__init__(self, given)
        self.quarantine = Quarantine(self, given["on_plugin_error"])
        """The loggers and callbacks that the run goes on without, because they failed."""
        self.bus.guard = self.quarantine.wrap

        if isinstance(given["precision"], int) and not isinstance(given["precision"], bool):
            given["precision"] = str(given["precision"])
        kinds = {Precision: "precision", CheckpointIO: "checkpoint_io", ClusterEnvironment: "environment"}
        from_plugins, observers = one_of_each(given["plugins"], kinds)
        for argument, part in from_plugins.items():
            if given[argument] not in (None, "auto"):
                raise ValueError(
                    f"plugins has a {type(part).__name__} and {argument}={quoted(given[argument], argument)} is given too; "
                    f"pass one of them"
                )
            given[argument] = part

        self.accelerator: Accelerator = choose_accelerator(given["accelerator"])
        self.environment: ClusterEnvironment = choose_environment(given["environment"])
        devices, self.num_nodes = number_of_processes(given["devices"], self.num_nodes, self.environment)
        self.device_ids = returned(
            self.accelerator.parse_devices(devices), self.accelerator, "parse_devices", list, "a list of ints"
        )
        self.strategy = choose_strategy(given["strategy"], self.accelerator, len(self.device_ids), self.num_nodes)
        self.strategy.connect(self.accelerator, self.device_ids, self.num_nodes, self.environment)
        self.precision: Precision = Precision() if given["precision"] is None else resolve(Precision, given["precision"])
        self.strategy.check_precision(self.precision)
        self.checkpoint_io: CheckpointIO = (
            CheckpointIO() if given["checkpoint_io"] is None else resolve(CheckpointIO, given["checkpoint_io"])
        )
        self.profiler: Profiler = Profiler() if given["profiler"] is None else resolve(Profiler, given["profiler"])
        self.bus.use_profiler(self.profiler)
        self.observers: list[Any] = observers
        """The objects among ``plugins`` that are no components."""
        for observer in observers:
            self.bus.register(observer)

        self._start_from: str | os.PathLike[str] | None = None
        self.module: Module | None = None
        """The module of the running or the last run."""
        self.datamodule: DataModule | None = None
        """The data module of the running or the last run."""
        self.progress = Progress()
        self.history = History()
        """Every record of the last fit, and of the evaluations since."""
        self.metrics = Metrics(self.strategy)
        self.optimizers: list[Any] = []
        self.lr_scheduler_configs: list[SchedulerConfig] = []
        self.optimizer_frequencies: list[int] = []
        self.reset()

        self.loggers: list[Logger] = self._choose_loggers(given["logger"])
        for item in self.loggers:
            item.connect(self)
        self.callbacks: list[Any] = choose_callbacks(given["callbacks"])
        self._add_default_callbacks()
        self._register_parts()

    # ---- construction ----

    def _register_extensions(self) -> None:
        with self.bus.together():
            for plugin, loaded in hook_plugins():
                self.bus.register(loaded, name=f"{plugin.name} ({plugin.distribution})")

    def driving_parts(self) -> tuple[Component, ...]:
        """Accelerator, strategy and precision, whose hooks are called in every run and in trials of it."""
        return self.accelerator, self.strategy, self.precision

    def _register_parts(self) -> None:
        parts = (*self.driving_parts(), *self.loggers, self.profiler, self.checkpoint_io)
        with self.bus.together():
            for callback in self.callbacks:
                self.bus.register(callback, role="callback")
            for component in parts:
                self.bus.register(component, role="component")

    def __getstate__(self) -> dict[str, Any]:
        # A spawned process gets the Trainer as it is before a run; who is on the bus follows from its parts.
        running = ("bus", "train_step", "train_loader", *_LOOPS)
        return {name: value for name, value in vars(self).items() if name not in running}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, train_step=None, train_loader=None, **dict.fromkeys(_LOOPS))
        self.bus = Bus()
        self.bus.guard = self.quarantine.wrap
        self._register_extensions()
        self.bus.use_profiler(self.profiler)
        for observer in self.observers:
            self.bus.register(observer)
        self._register_parts()

    def _choose_loggers(self, choice: Any) -> list[Logger]:
        if choice is None or choice is True:
            found = self.bus.hook.default_logger(trainer=self)
            if found is None and choice is True:
                owner = catalog().get("leyden", {}).get("default_logger", "a distribution that has one")
                raise LookupError(f"logger=True: no installed plug-in brings a default logger; run: pip install {owner}")
            return [] if found is None else [found]
        return choose_loggers(choice)

    def _add_default_callbacks(self) -> None:
        wanted = {
            "checkpointing": self.enable_checkpointing,
            "progress_bar": self.enable_progress_bar,
            "model_summary": self.enable_model_summary,
        }
        for role, enabled in wanted.items():
            if enabled is False and any(getattr(callback, "role", "") == role for callback in self.callbacks):
                name = next(type(callback).__qualname__ for callback in self.callbacks if getattr(callback, "role", "") == role)
                if not self.fast_dev_run:
                    raise ValueError(f"Trainer(enable_{role}=False) but callbacks has a {name}; leave out one of them")
        given = len(self.callbacks)
        for answer in self.bus.hook.default_callbacks(trainer=self) or []:
            self.callbacks += [answer] if isinstance(answer, Callback) else list(answer or [])
        for role, enabled in wanted.items():
            if enabled and not any(getattr(callback, "role", "") == role for callback in self.callbacks):
                owner = catalog().get("leyden", {}).get("default_callbacks", "a distribution that has one")
                raise LookupError(f"Trainer(enable_{role}=True): no installed plug-in brings one; run: pip install {owner}")
        self.added_callbacks: list[Any] = self.callbacks[given:]
        """The callbacks that plug-ins added because the user gave none of their role."""
        # Checkpoints are taken last, when every other callback has done its part.
        self.callbacks.sort(key=lambda callback: getattr(callback, "role", "") == "checkpointing")

    # ---- what to run ----

    def fit(
        self,
        model: Module,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        weights_only: bool | None = None,
    ) -> History:
        """Trains until a limit is reached or ``should_stop`` is set; a second call trains again from the start.

        Args:
            model: the module.
            train_dataloaders: a DataLoader or any iterable of batches; a list or dict of them is read in parallel, the
                shorter ones over again. Without, the data module's or the module's ``train_dataloader``. A DataModule is
                taken as ``datamodule``.
            val_dataloaders: an iterable of batches, or a list or dict of them.
            datamodule: makes the loaders.
            ckpt_path: a checkpoint to continue from: a path, ``"last"`` or ``"best"``.
            weights_only: True or None; a checkpoint is never unpickled.

        Returns:
            Every value logged, by key.

        Raises:
            TypeError: the module or a loader is of the wrong type.
            ValueError: the module lacks what training needs, or there is no training data.
        """
        _check_weights_only(weights_only)
        train_dataloaders, datamodule = _check_fit("fit", model, train_dataloaders, val_dataloaders, datamodule)
        self._refuse_inside_of_a_run("fit")
        ckpt_path = self._start_from if ckpt_path is None else ckpt_path
        self.progress, self.history = Progress(), History()
        self.module, self.datamodule = model, datamodule  # here too, if the run is in other processes
        self.called, self.came_to_its_end = "fit", False
        try:
            history = self.strategy.launch(runs.fit, self, model, datamodule, ckpt_path, train_dataloaders, val_dataloaders)
        except KeyboardInterrupt:
            if (self.on_interrupt or ("return" if in_notebook() else "raise")) == "raise":
                raise
            self.interrupted = True
            return self.history
        return returned(history, self.strategy, "launch", History, _LAUNCHED)

    def batches(
        self,
        model: Module,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
    ) -> Iterator[Any]:
        """A fit whose training of a batch is yours: ``for batch in trainer.batches(module): ... trainer.step(loss)``.

        Everything else is as in :meth:`fit`: hooks, logging, validation, checkpoints, limits. Leaving the ``for`` early ends
        the run. ``training_step`` is not called; with manual optimization, step the optimizers yourself.

        Args:
            model: the module.
            train_dataloaders: as for ``fit``.
            val_dataloaders: as for ``fit``.
            datamodule: as for ``fit``.
            ckpt_path: as for ``fit``.

        Yields:
            Each batch, on its device.
        """
        train_dataloaders, datamodule = _check_fit("batches", model, train_dataloaders, val_dataloaders, datamodule)
        self._refuse_inside_of_a_run("batches")
        self.progress, self.history = Progress(), History()
        if self.strategy.world_size > 1:
            raise ValueError("trainer.batches() runs in one process; use fit() with several")
        ckpt_path = self._start_from if ckpt_path is None else ckpt_path
        self.called, self.came_to_its_end = "fit", False
        return runs.batches(self, model, datamodule, ckpt_path, train_dataloaders, val_dataloaders)

    def step(self, loss: Any) -> None:
        """Inside :meth:`batches`: backward on the loss of the running batch, and the optimizer step when one is due.

        Args:
            loss: what ``training_step`` would return.

        Raises:
            RuntimeError: no batch of ``batches()`` is running, or optimization is manual.
        """
        if self.running_batch is None or self.fit_loop is None or not isinstance(self.train_step, TrainStep):
            raise RuntimeError("trainer.step(loss) works inside `for batch in trainer.batches(...)`, in automatic optimization")
        self.fit_loop.outputs = self.train_step.backward_from(loss, *self.running_batch)
        self.fit_loop.stepped = self.train_step.update()

    def validate(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Runs ``validation_step`` on every batch once.

        Args:
            model: the module; without, that of the last run with its best checkpoint, if there is one.
            dataloaders: an iterable of batches, or a list or dict of them; or a DataModule.
            ckpt_path: weights to load first: a path, ``"best"`` or ``"last"``.
            verbose: whether the values are printed.
            datamodule: makes the loaders.
            weights_only: True or None; a checkpoint is never unpickled.

        Returns:
            For each loader the values logged, by key.
        """
        return self._evaluate("validate", model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    def test(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Runs ``test_step`` on every batch once; arguments and result are those of :meth:`validate`."""
        return self._evaluate("test", model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    def predict(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        weights_only: bool | None = None,
        max_bytes: float = 8 * 2**30,
    ) -> list[Any] | None:
        """Runs ``predict_step`` on every batch once.

        Args:
            model: the module; without, that of the last run with its best checkpoint, if there is one.
            dataloaders: an iterable of batches, or a list or dict of them; or a DataModule.
            datamodule: makes the loaders.
            return_predictions: False keeps nothing, for predictions that a callback writes.
            ckpt_path: weights to load first: a path, ``"best"`` or ``"last"``.
            weights_only: True or None; a checkpoint is never unpickled.
            max_bytes: how many bytes of tensors to keep at most; ``float("inf")`` for any number.

        Raises:
            ValueError: there is more to keep.

        Returns:
            What ``predict_step`` returned for each batch, on the CPU; a list of such lists if there are several loaders;
            None if nothing was to be kept.
        """
        model, datamodule, dataloaders, ckpt_path = self._prepare(
            "predict", model, dataloaders, datamodule, ckpt_path, weights_only
        )
        keep = return_predictions is not False
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int | float) or not max_bytes >= 0:
            raise ValueError(f"predict(max_bytes={quoted(max_bytes)}): expected a number >= 0, got {shown(max_bytes)}")
        results: list[list[Any]] = self.strategy.launch(
            runs.predict, self, model, dataloaders, ckpt_path, datamodule, keep, max_bytes
        )
        returned(results, self.strategy, "launch", list, _LAUNCHED)
        if not keep:
            return None
        return results[0] if len(results) == 1 else results

    def save_checkpoint(
        self, filepath: str | os.PathLike[str], weights_only: bool | None = None, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        """Writes a checkpoint of the run as it stands; with several processes, all of them call it.

        Args:
            filepath: a file or URL.
            weights_only: leaves out what only training needs.
            storage_options: accepted where it is None; pass ``checkpoint_io`` to the Trainer instead.

        Raises:
            NonFiniteError: during a fit, parameters are not finite, and ``nan_policy`` is not ``"off"``; nothing is written.
            OSError: it could not be written; what stood there before still does.
            TypeError: a state is not plain data.
            ValueError: the file is to be one of safetensors.
        """
        if storage_options is not None:
            raise ValueError(
                f"storage_options={quoted(storage_options)}: options belong to the Trainer's checkpoint_io, which writes the file"
            )
        if os.fspath(filepath).endswith(".safetensors"):
            raise ValueError(
                f"save_checkpoint({quoted(filepath)}): files of safetensors hold tensors alone, and a checkpoint has more; name "
                f"it .ckpt, or save the weights by safetensors.torch.save_file(module.state_dict(), ...)"
            )
        if self.running:
            self.finite_watch.before_save(os.fspath(filepath))
        write(self, gather(self, bool(weights_only)), os.fspath(filepath))
        self.strategy.barrier()

    def is_finite(self) -> bool:
        """Whether every parameter that is trained is finite; with several processes, all of them call it."""
        return self.module is None or parameters_finite(self, self.module, together=True)

    def verify_resume(
        self,
        model: Module,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        *,
        at: int,
        steps: int | None = None,
    ) -> ResumeReport:
        """Kills a fit and resumes it, in processes of their own, and compares it with one that is not interrupted.

        This process, the module and the loaders stay as they are; loggers and callbacks that save checkpoints are left out.

        Args:
            model: as for ``fit``.
            train_dataloaders: as for ``fit``.
            val_dataloaders: as for ``fit``.
            datamodule: as for ``fit``.
            at: the optimizer step after which the fit is killed.
            steps: optimizer steps in all; twice ``at`` if not given.

        Returns:
            What differs, the earliest first: true if nothing does, ``print`` shows it.

        Raises:
            ValueError: ``at`` or ``steps`` is out of range.
            RuntimeError: a fit failed, or processes cannot be forked here.
        """
        train_dataloaders, datamodule = _check_fit("fit", model, train_dataloaders, val_dataloaders, datamodule)
        from leyden.checkpoint.verify import verify  # few runs ask

        given = {"train_dataloaders": train_dataloaders, "val_dataloaders": val_dataloaders, "datamodule": datamodule}
        return verify(lambda: (self, {"model": model, **given}), at, steps)

    def explain(self, model: Module | None = None) -> str:
        """What was chosen for each part, which distribution brought it and why, what is on the bus, and dtypes, as text.

        Args:
            model: whose dtypes to show; the module of the last run if not given.
        """
        from leyden.explain import explain  # few runs ask

        return explain(self, model)

    def outline(self) -> str:
        """What the running fit will do when, in a few lines: epochs and steps, validation, log points, callbacks.

        Raises:
            RuntimeError: no fit is running, or it has not read its loaders yet.
        """
        from leyden.outline import outline  # few runs ask

        return outline(self)

    def plan(
        self,
        model: Module,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        horizon: int = 10_000,
    ) -> Plan:
        """Works out what ``fit`` with these arguments would do, without training.

        It asks for loaders and optimizers as ``fit`` does, reads no batch and changes no parameter.

        Args:
            model: the module.
            train_dataloaders: as for ``fit``.
            val_dataloaders: as for ``fit``.
            datamodule: as for ``fit``.
            horizon: for how many optimizer steps validations and learning rates are worked out.

        Returns:
            Steps an epoch, steps in all, when validation runs, and the learning-rate curve; ``print`` and notebooks show
            it as a table.
        """
        train_dataloaders, datamodule = _check_fit("fit", model, train_dataloaders, val_dataloaders, datamodule)
        from leyden.explain import plan  # few runs ask

        return plan(self, model, train_dataloaders, val_dataloaders, datamodule, horizon)

    def init_module(self, empty_init: bool | None = None) -> AbstractContextManager[None]:
        """A block in which modules are built on the run's device and in its precision, as ``with trainer.init_module(): ...``.

        Args:
            empty_init: whether parameters are left as they were allocated, for weights that are loaded afterwards anyway.
        """
        from leyden.initializing import init_module  # few programs ask

        return init_module(self, empty_init)

    # ---- what plug-ins and users read ----

    @property
    def ckpt_path(self) -> str | os.PathLike[str] | None:
        """The checkpoint that the running or the last run loaded, ``"best"`` and ``"last"`` resolved.

        Set it, and every run that is given no ``ckpt_path`` starts from that one, until it is set to None.
        """
        return self.loaded_checkpoint or self._start_from

    @ckpt_path.setter
    def ckpt_path(self, path: str | os.PathLike[str] | None) -> None:
        if path is not None and not isinstance(path, str | os.PathLike):
            raise TypeError(f"trainer.ckpt_path = {quoted(path)}: expected a path, 'best', 'last' or None, got {shown(path)}")
        self._start_from, self.loaded_checkpoint = path, None

    @property
    def enable_validation(self) -> bool:
        """Whether the running fit has something to validate: a step, data and a limit."""
        module = self.module
        if module is None or not is_overridden("validation_step", module, Module) or self.limit_val_batches == 0:
            return False
        return bool(self.overfit_batches) or has_source("val", self.given_val, self.datamodule, module)

    @property
    def current_epoch(self) -> int:
        """The number of the running epoch, from 0; after a fit the number of epochs completed."""
        return self.progress.epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps so far."""
        return self.progress.global_step

    @property
    def logger(self) -> Logger | None:
        """The first logger; setting it replaces all of them."""
        return self.loggers[0] if self.loggers else None

    @logger.setter
    def logger(self, logger: Logger | None) -> None:
        self.loggers = [] if logger is None else [logger]
        if logger is not None:
            logger.connect(self)

    @property
    def log_dir(self) -> str:
        """The directory of this run: the first logger's, or ``default_root_dir``.

        Of a run in several processes it is rank 0's answer, which the others have from before the hook ``setup`` on; reading it
        waits for nobody.
        """
        if self.agreed_log_dir is not None and not self.is_global_zero:
            return self.agreed_log_dir
        for logger in self.loggers:
            if logger.log_dir is not None:
                return returned(logger.log_dir, logger, "log_dir", str, "a str or None")
        return self.default_root_dir

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        """The latest value of everything logged, on its device."""
        return self.metrics.callback_metrics

    @property
    def logged_metrics(self) -> dict[str, float]:
        """The latest values the loggers were given."""
        return self.metrics.logged_metrics

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """The values for the progress bar as last read at a log point; reading them touches no device."""
        return self.metrics.progress_bar_metrics

    @property
    def state(self) -> TrainerState:
        """Which method runs (``fn``), whether it goes on (``status``) and what its batches are for (``stage``)."""
        return TrainerState(self)  # made when asked for, so that no Trainer keeps itself alive by it

    @property
    def is_global_zero(self) -> bool:
        """Whether this process is rank 0."""
        return self.strategy.rank == 0

    @property
    def world_size(self) -> int:
        """How many processes take part."""
        return self.strategy.world_size

    @property
    def global_rank(self) -> int:
        """The number of this process among all."""
        return self.strategy.rank

    @property
    def local_rank(self) -> int:
        """The number of this process on its machine."""
        return self.strategy.local_rank

    @property
    def node_rank(self) -> int:
        """The number of this machine among all."""
        return self.strategy.node_rank

    @property
    def num_devices(self) -> int:
        """Devices that are used on each machine."""
        return len(self.device_ids)

    @property
    def evaluating(self) -> bool:
        """Whether validation or test is running, also validation inside of a fit."""
        return self.validating or self.testing

    @property
    def received_sigterm(self) -> bool:
        """Whether the running or the last run was asked by SIGTERM to end."""
        return self.received.number == signal.SIGTERM

    @property
    def lightning_module(self) -> Module | None:
        """The module, by the name that Lightning has for it."""
        return self.module

    @property
    def precision_plugin(self) -> Precision:
        """The number formats of the run, by the name that Lightning has for it."""
        return self.precision

    @property
    def scaler(self) -> Any:
        """What scales the loss so that small gradients survive, a ``torch.amp.GradScaler``; None if nothing does."""
        return self.precision.scaler

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int]:
        """``num_replicas`` and ``rank`` for a ``DistributedSampler`` of one's own; the loaders need none."""
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    @property
    def model(self) -> Module | None:
        """The module, by the name that Lightning has for what the strategy runs."""
        return self.module

    @property
    def checkpoint_callbacks(self) -> list[Any]:
        """The callbacks that save checkpoints."""
        return [callback for callback in self.callbacks if getattr(callback, "role", "") == "checkpointing"]

    @property
    def checkpoint_callback(self) -> Any:
        """The first callback that saves checkpoints, or None."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def early_stopping_callbacks(self) -> list[Any]:
        """The callbacks that may end training early."""
        return [callback for callback in self.callbacks if getattr(callback, "role", "") == "early_stopping"]

    @property
    def early_stopping_callback(self) -> Any:
        """The first callback that may end training early, or None."""
        return next(iter(self.early_stopping_callbacks), None)

    @property
    def progress_bar_callback(self) -> Any:
        """The progress bar, or None."""
        return next((callback for callback in self.callbacks if getattr(callback, "role", "") == "progress_bar"), None)

    @property
    def manual_optimizers(self) -> list[Any]:
        """The optimizers as ``module.optimizers()`` gives them: in manual optimization they step with hooks and precision."""
        return list(self.train_step.optimizers) if isinstance(self.train_step, ManualStep) else self.optimizers

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimizer steps a whole fit will take, for schedulers that need to know; infinite where nothing limits it.

        Raises:
            RuntimeError: no fit has begun, so that nobody knows the loader.
        """
        if self.module is None:
            raise RuntimeError(
                "trainer.estimated_stepping_batches is known from trainer.fit(module) on; read it in configure_optimizers or in "
                "a hook, or ask trainer.plan(module, loader)"
            )
        if self.train_loader is None:
            load_train(self)
        length = self.num_training_batches
        epochs = INFINITE if self.max_epochs == -1 else self.max_epochs
        total = self.steps_of(length, epochs)
        return min(total, self.max_steps) if self.max_steps != -1 else total

    def steps_of(self, length: int | float, epochs: int | float) -> int | float:
        """Optimizer steps in so many epochs of so many batches, under ``accumulate_grad_batches`` alone."""
        if not length or not epochs or INFINITE in (length, epochs):
            return INFINITE if length and epochs else 0
        if self.carry_accumulation:
            return -(-int(length * epochs) // self.accumulate_grad_batches)
        return -(-int(length) // self.accumulate_grad_batches) * int(epochs)

    def accumulate(self, batches: int) -> None:
        """Has so many batches make an optimizer step from the running epoch on; callbacks call it at an epoch's start."""
        self.accumulate_grad_batches = batches
        if self.train_step is not None:
            self.train_step.accumulate(batches)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints on rank 0 only."""
        if self.is_global_zero:
            print(*args, **kwargs)

    def manual_backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Backward of manual optimization; modules call it as ``self.manual_backward(loss)``."""
        if not isinstance(self.train_step, ManualStep):
            raise RuntimeError("manual_backward() works inside training_step in manual optimization only")
        self.train_step.backward(loss, *args, **kwargs)

    def log_record(self, values: dict[str, float], epoch: int | None = None) -> None:
        """Hands one record to every logger on rank 0; nothing if it is empty. A key ``"step"`` replaces the step.

        Args:
            values: by key.
            epoch: whose they are, if not the running one's.
        """
        self.finite_watch.read(values)
        if not values or self.sanity_checking:
            return
        record = dict(values)
        step = int(record.pop("step", max(self.progress.global_step - 1, 0)))
        self.metrics.logged_metrics.update(record)
        progress = self.progress
        epoch = progress.epoch if epoch is None else epoch
        self.history.add(
            step,
            epoch,
            record,
            batch=progress.batch,
            samples=progress.samples or None,
        )
        if not self.is_global_zero:
            return
        record.setdefault("epoch", epoch)
        for logger in self.quarantine.active(self.loggers):
            with self.quarantine.guard(logger, "log_metrics"):
                logger.log_metrics(record, step)

    # ---- a run ----

    def stop_for_signal(self) -> None:
        """Called by the loops between two batches when a signal came: saves what was done and raises.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            Terminated: it was SIGTERM or SIGHUP.
        """
        stop(self)

    def _prepare(
        self,
        stage: str,
        model: Module | None,
        dataloaders: Any,
        datamodule: DataModule | None,
        ckpt_path: Any,
        weights_only: bool | None,
    ) -> tuple[Module, DataModule | None, Any, Any]:
        if isinstance(dataloaders, DataModule):
            dataloaders, datamodule = None, dataloaders
        if model is None:
            if self.module is None:
                raise ValueError(f"trainer.{stage}() was given no model and there was no fit before; pass the module")
            model = self.module
            ckpt_path = self._start_from if ckpt_path is None else ckpt_path
            datamodule = datamodule if datamodule is not None or dataloaders is not None else self.datamodule
            if ckpt_path is None and self.known_checkpoint("best"):
                notify("LY007", f"{stage} was given no model and no ckpt_path: it uses the best checkpoint of the last fit")
                ckpt_path = "best"
        _check_module(model, stage)
        _check_weights_only(weights_only)
        _check_datamodule(datamodule, dataloaders)
        self._refuse_inside_of_a_run(stage)
        self.module, self.datamodule = model, datamodule  # here too, if the run is in other processes
        self.called, self.came_to_its_end = stage, False
        ckpt_path = self._start_from if ckpt_path is None else ckpt_path
        return model, datamodule, dataloaders, ckpt_path

    def _refuse_inside_of_a_run(self, stage: str) -> None:
        if self.running:
            raise RuntimeError(
                f"trainer.{stage}() was called while trainer.{self.called}() runs; call it afterwards, or have fit validate when "
                f"you want it with Trainer(val_check_interval=...)"
            )

    def _evaluate(
        self, stage: str, model: Any, dataloaders: Any, ckpt_path: Any, verbose: bool, datamodule: Any, weights_only: Any
    ) -> list[dict[str, float]]:
        model, datamodule, dataloaders, ckpt_path = self._prepare(stage, model, dataloaders, datamodule, ckpt_path, weights_only)
        found = self.strategy.launch(runs.evaluate, self, stage, model, dataloaders, ckpt_path, datamodule)
        results = returned(found, self.strategy, "launch", list, _LAUNCHED)
        if verbose and self.is_global_zero:
            for index, values in enumerate(results):
                if values:
                    title = f"{stage}, loader {index}" if len(results) > 1 else stage
                    print(table([[key, f"{value:.6g}"] for key, value in values.items()], [title, "value"]))
        return results

    def known_checkpoint(self, which: str) -> str | None:
        """The path of the ``"best"`` or ``"last"`` checkpoint, if a callback knows it."""
        for callback in self.callbacks:
            if isinstance(callback, Callback):
                path = callback.resolve_checkpoint(which)
                if path:
                    return returned(path, callback, "resolve_checkpoint", str, "a str or None")
        return None

    def resolve_checkpoint(self, ckpt_path: str | os.PathLike[str]) -> str:
        """The path that ``ckpt_path`` stands for.

        Raises:
            ValueError: it is ``"best"`` or ``"last"`` and no callback knows one.
        """
        path = os.fspath(ckpt_path)
        if path not in ("best", "last"):
            return path
        known = self.known_checkpoint(path) or find_checkpoint(self, path)
        if known is None:
            raise ValueError(
                f"ckpt_path={quoted(path)}: no checkpoint callback of this Trainer knows of one, and there is none below "
                f"{quoted(self.default_root_dir)}; fit first, or pass a path"
            )
        return known


def _check_fit(stage: str, model: Any, train: Any, val: Any, datamodule: Any) -> tuple[Any, DataModule | None]:
    """Checks what a fit is given; returns the training loaders and the data module, told apart."""
    if isinstance(train, DataModule):
        train, datamodule = None, train
    _check_module(model, stage)
    _check_datamodule(datamodule, train, val)
    return train, datamodule


def _check_module(module: Any, stage: str) -> None:
    if not isinstance(module, Module):
        hint = ""
        if isinstance(module, torch.nn.Module):
            hint = "; an nn.Module needs steps: derive it from leyden.Module"
        elif isinstance(module, type) and issubclass(module, Module):
            hint = f"; it is a class: pass an object, {module.__name__}(...)"
        raise TypeError(f"{stage}() expected a leyden.Module, got {shown(module)}{hint}")
    if "_parameters" not in vars(module):
        raise TypeError(f"{type(module).__name__}.__init__ must call super().__init__(), before anything else")
    needed = [_STEPS[stage]] if stage not in ("predict", "batches") else []
    if stage in ("fit", "batches"):
        needed.append("configure_optimizers")
    if stage == "predict" and not is_overridden("predict_step", module, Module) and not is_overridden("forward", module, Module):
        needed.append("predict_step")
    for name in needed:
        if not is_overridden(name, module, Module):
            own = [key for key in dir(type(module)) if not key.startswith("_") and not hasattr(Module, key)]
            match = nearest(name, own, cutoff=0.8)
            hint = f"; did you mean its {match!r}?" if match else ""
            raise ValueError(f"{stage}() needs {type(module).__name__}.{name}(), which is not defined{hint}")


def _check_weights_only(weights_only: bool | None) -> None:
    if weights_only is False:
        raise ValueError("weights_only=False would run code named in the file; leyden reads plain data only, so leave it out")


def _check_datamodule(datamodule: Any, *loaders: Any) -> None:
    if datamodule is None:
        return
    if not isinstance(datamodule, DataModule):
        raise TypeError(f"datamodule: expected a leyden.DataModule, got {shown(datamodule)}")
    if any(loader is not None for loader in loaders):
        raise ValueError("both loaders and a datamodule were given; pass one of them")
