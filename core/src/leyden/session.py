"""Everything around a run: who is on the bus, global switches, and the end for everyone, whatever happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from leyden import inference_tensors
from leyden.adapted import adapt, restore
from leyden.binding import misspelt_methods
from leyden.compile import TracedMetrics
from leyden.data.reading import explain_worker
from leyden.data.stages import end_workers
from leyden.datamodule import DataModule
from leyden.interrupts import Terminated
from leyden.logger import Logger
from leyden.messages import add_note, new_run, warn
from leyden.metrics.store import Metrics
from leyden.module import Module
from leyden.quarantine import explain_plugin
from leyden.selection import choose_callbacks

if TYPE_CHECKING:
    from leyden.trainer import Trainer


@contextmanager
def session(trainer: Trainer, stage: str, module: Module, datamodule: DataModule | None) -> Iterator[None]:
    """Everything around a run: who is on the bus, global switches, and the end for everyone, whatever happened."""
    _start(trainer, stage, module, datamodule)
    error: BaseException | None = None
    with ExitStack() as switches:
        _set_switches(trainer, switches)
        try:
            trainer.strategy.setup_environment()
            yield
        except GeneratorExit:
            raise  # whoever reads Trainer.batches() has had enough
        except BaseException as raised:
            error = raised
            explain_worker(raised)
            inference_tensors.explain(raised, module)
            explain_plugin(raised, trainer)
            trainer.error = raised
            trainer.bus.guarded("on_exception", trainer, module, raised, errors=raised)
            raise
        finally:
            trainer.accepts_logs = False
            later = _end(trainer, stage, module, error)
            if error is None and later is None:
                trainer.came_to_its_end = True
            if error is None and later is not None:
                raise later


def _start(trainer: Trainer, stage: str, module: Module, datamodule: DataModule | None) -> None:
    trainer.reset()
    new_run(trainer.strategy.rank)
    if stage == "fit":
        trainer.quarantine.failures.clear()
    trainer.stage, trainer.running, trainer.accepts_logs = stage, True, not trainer.barebones
    trainer.module, trainer.datamodule = module, datamodule
    module.trainer = trainer
    trainer.metrics = _metrics(trainer)
    trainer.metrics.module = module
    if datamodule is not None:
        datamodule.trainer = trainer
    try:
        for owner in (module, datamodule):
            if owner is not None:
                adapt(trainer, owner)
        _put_loggers(trainer)
        _put_callbacks(trainer, trainer.callbacks)
        if datamodule is not None:
            trainer.bus.register(datamodule, role="datamodule")
        trainer.bus.register(module, role="module")
        called = {name for participant in trainer.bus.participants for name in getattr(participant.plugin, "calls_methods", ())}
        for obj, base in ((module, Module), (datamodule, DataModule)):
            for sentence in misspelt_methods(obj, base, called) if obj is not None else ():
                warn("LY002", sentence)
        own = choose_callbacks(module.configure_callbacks(), argument=f"{type(module).__name__}.configure_callbacks()")
        if own:
            kept = [callback for callback in trainer.callbacks if not any(type(callback) is type(other) for other in own)]
            trainer.usual_callbacks = trainer.callbacks
            trainer.callbacks = sorted([*kept, *own], key=lambda callback: getattr(callback, "role", "") == "checkpointing")
            _put_callbacks(trainer, trainer.callbacks)
    except BaseException:
        _leave(trainer, module)
        raise


def _metrics(trainer: Trainer) -> Metrics:
    if trainer.compile_options is not None:
        return TracedMetrics(trainer.strategy)
    metrics = Metrics(trainer.strategy)
    for name, action in (("log", "[Log]log"), ("step_record", "[Log]read")):
        trainer.profiler.wrap_method(metrics, name, action)
    return metrics


def _put_callbacks(trainer: Trainer, callbacks: list[Any]) -> None:
    """Has these callbacks on the bus in this order; the user may have changed ``trainer.callbacks`` since the last run."""
    registered = [participant.plugin for participant in trainer.bus.participants if participant.role == "callback"]
    if len(registered) == len(callbacks) and all(a is b for a, b in zip(registered, callbacks, strict=True)):
        return
    for callback in registered:
        trainer.bus.unregister(callback)
    for callback in callbacks:
        trainer.bus.register(callback, role="callback")


def _put_loggers(trainer: Trainer) -> None:
    """Likewise has these loggers on the bus; the user may have changed ``trainer.loggers``."""
    registered = [participant.plugin for participant in trainer.bus.participants if isinstance(participant.plugin, Logger)]
    for logger in registered:
        if not any(logger is other for other in trainer.loggers):
            trainer.bus.unregister(logger)
    for logger in trainer.loggers:
        if not any(logger is other for other in registered):
            logger.connect(trainer)
            trainer.bus.register(logger, role="component")


def _leave(trainer: Trainer, module: Module) -> None:
    """Takes off the bus what belongs to one run."""
    for owner in (module, trainer.datamodule):
        if owner is not None:
            trainer.bus.unregister(owner)
            restore(owner)
    if trainer.usual_callbacks is not None:
        trainer.callbacks, trainer.usual_callbacks = trainer.usual_callbacks, None
        _put_callbacks(trainer, trainer.callbacks)
    trainer.running, trainer.stage, trainer.error = False, None, None
    trainer.training = trainer.validating = trainer.testing = trainer.predicting = trainer.sanity_checking = False
    trainer.train_step = None


def _set_switches(trainer: Trainer, switches: ExitStack) -> None:
    if trainer.deterministic is not None:
        before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        switches.callback(lambda: torch.use_deterministic_algorithms(before[0], warn_only=before[1]))
        if trainer.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
        torch.use_deterministic_algorithms(bool(trainer.deterministic), warn_only=trainer.deterministic == "warn")
    if trainer.benchmark is not None:
        switches.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        torch.backends.cudnn.benchmark = trainer.benchmark
    if trainer.detect_anomaly:
        switches.enter_context(torch.autograd.set_detect_anomaly(True))


def _end(trainer: Trainer, stage: str, module: Module, error: BaseException | None) -> BaseException | None:
    """Lets go of everything; errors on the way are notes of ``error``, or the result if there was none."""
    failed = _note(error, "strategy.teardown", trainer.strategy.teardown, module)
    failed = _note(failed, "resetting the metrics", trainer.metrics.forget)
    failed = _note(failed, "ending the loaders' workers", end_workers, trainer)
    failed = _note(failed, "the last save", trainer.checkpoint_io.teardown)
    if error is None and stage == "fit":
        failed = trainer.bus.guarded("on_fit_end", trainer, module, errors=failed)
    failed = trainer.bus.guarded("teardown", trainer, module, stage, errors=failed)
    status = "success" if error is None else "interrupted" if isinstance(error, KeyboardInterrupt | Terminated) else "failed"
    for logger in trainer.loggers if trainer.is_global_zero else []:
        failed = _note(failed, f"{type(logger).__name__}.finalize", _finalize, trainer, logger, status, error)
    trainer.quarantine.report()
    _leave(trainer, module)
    return failed


def _finalize(trainer: Trainer, logger: Logger, status: str, error: BaseException | None) -> None:
    if error is not None and not trainer.quarantine.holds(logger):
        logger.finalize(status)  # what it raises is a note of the error
        return
    with trainer.quarantine.guard(logger, "finalize"):
        logger.finalize(status)


def _note(error: BaseException | None, what: str, function: Callable[..., Any], *args: Any) -> BaseException | None:
    """Calls a function; what it raises becomes a note of ``error``, or the result if there was none."""
    try:
        function(*args)
    except Exception as raised:
        if error is None:
            return raised
        add_note(error, f"afterwards, {what} raised {type(raised).__name__}: {raised}")
    return error
