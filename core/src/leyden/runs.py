"""What fit, validate, test and predict do in each process, from ``prepare_data`` to the loop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from leyden.callback import Callback
from leyden.checkpoint.hyperparameters import check_hyperparameters
from leyden.checkpoint.load import restore_callbacks, restore_training, restore_weights
from leyden.checkpoint.newest import open_checkpoint
from leyden.checkpoint.training import restore_loop, restore_seed
from leyden.data.loaders import Loader
from leyden.data.stages import load_evaluation, load_train, load_validation
from leyden.datamodule import DataModule
from leyden.finite import choose_watch
from leyden.inference_tensors import refuse_parameters
from leyden.interrupts import deferred_interrupt
from leyden.loops.closure_step import ClosureStep
from leyden.loops.evaluate import EvaluateLoop
from leyden.loops.fit import FitLoop
from leyden.loops.make_step import make_step
from leyden.loops.manual_step import ManualStep
from leyden.loops.predict import PredictLoop
from leyden.loops.reports import report_no_step
from leyden.loops.several_step import TurnsStep
from leyden.loops.stopping import is_done, reads_of
from leyden.messages import notify
from leyden.metrics.history import History
from leyden.module import Module
from leyden.optim.configure import Optimization, read_optimizers
from leyden.optim.schedulers import Schedulers
from leyden.returned import returned
from leyden.seeding import isolated_random_state
from leyden.session import session

if TYPE_CHECKING:
    from leyden.trainer import Trainer

_DEFAULT_EPOCHS = 1000


def fit(trainer: Trainer, module: Module, datamodule: DataModule | None, ckpt_path: Any, train: Any, val: Any) -> History:
    """Trains; ``train`` and ``val`` are the loaders the user gave, if any."""
    with session(trainer, "fit", module, datamodule), deferred_interrupt(trainer):
        loop = _fit_loop(trainer, module, ckpt_path, train, val)
        with isolated_random_state():
            loop.run()
        report_no_step(loop)
    return trainer.history


def batches(
    trainer: Trainer, module: Module, datamodule: DataModule | None, ckpt_path: Any, train: Any, val: Any
) -> Iterator[Any]:
    """As :func:`fit`, but the caller trains on each batch."""
    with session(trainer, "fit", module, datamodule):
        loop = _fit_loop(trainer, module, ckpt_path, train, val)
        loop.how_to_step = "call trainer.step(loss) with the loss of each"
        step = trainer.train_step
        if isinstance(step, ClosureStep | TurnsStep):
            raise ValueError(
                f"trainer.batches() runs one forward and backward a batch, but {type(module).__name__}'s optimizers "
                f"evaluate the loss themselves or take turns; use fit()"
            )
        if trainer.strategy.replicas > 1:
            raise ValueError(
                f"trainer.batches() leaves the forward pass to you, so strategy={trainer.strategy.name!r} cannot run it on "
                f"{trainer.strategy.replicas} replicas; use fit()"
            )
        with isolated_random_state():
            for batch, batch_idx, is_last in loop.batches():
                if trainer.accumulate_grad_batches > 1:
                    step.begin(is_last)
                trainer.running_batch = (batch, batch_idx)
                loop.outputs, loop.stepped = None, False  # until its user calls trainer.step()
                yield batch
                trainer.running_batch = None
                if isinstance(step, ManualStep):
                    loop.stepped = step.update()
        report_no_step(loop)


def _fit_loop(trainer: Trainer, module: Module, ckpt_path: Any, train: Any, val: Any) -> FitLoop:
    trainer.given_train, trainer.given_val = train, val
    trainer.training = True
    _default_limits(trainer)
    checkpoint = _set_up(trainer, "fit", module, ckpt_path)
    check_hyperparameters(trainer)
    _configure_optimizers(trainer, module)
    trainer.bus.hook.on_fit_start(trainer=trainer, module=module)
    _introduce_to_loggers(trainer, module)
    if checkpoint is not None:
        restore_training(trainer, checkpoint)
    refuse_parameters(module)
    trainer.finite_watch = choose_watch(trainer, module)
    trainer.train_step = make_step(trainer, module)
    validation = _sanity_check(trainer, module, checkpoint is not None)
    loader = trainer.train_loader or load_train(trainer)
    for callback in trainer.callbacks:
        if isinstance(callback, Callback):
            callback.validate_run(trainer, module)
    schedulers = Schedulers(trainer.lr_scheduler_configs, module, trainer.metrics, trainer.progress.optimizer_steps)
    module.zero_grad()
    _set_train_mode(module)
    loop = trainer.fit_loop = FitLoop(trainer, module, loader, validation, trainer.train_step, schedulers)
    if checkpoint is not None:
        restore_loop(trainer, loop, checkpoint)
        epochs = trainer.progress.epoch + (0 < reads_of(loop) <= trainer.progress.batch)
        if trainer.num_training_batches and (is_done(loop) or epochs == trainer.max_epochs):
            notify(
                "LY035",
                f"the checkpoint is of a run that is at its limit already, after {epochs} epochs and "
                f"{trainer.global_step} steps, so nothing is trained; raise max_epochs or max_steps",
            )
    return loop


def _set_train_mode(module: Module) -> None:
    """Sets train mode if every part of the module is in eval mode; parts that the user set to eval mode stay so."""
    if not any(child.training for child in module.modules()):
        notify("LY005", f"{type(module).__name__} was in eval mode; it trains in train mode (module.train())")
        module.train()


def evaluate(
    trainer: Trainer, stage: str, module: Module, dataloaders: Any, ckpt_path: Any, datamodule: DataModule | None
) -> list[dict[str, float]]:
    """Validates or tests; returns for each loader the values logged."""
    short, name = ("val", "validation") if stage == "validate" else ("test", "test")
    with session(trainer, stage, module, datamodule):
        trainer.validating, trainer.testing = stage == "validate", stage == "test"
        _set_up(trainer, stage, module, ckpt_path)
        _introduce_to_loggers(trainer, module)
        loaders = load_evaluation(trainer, short, dataloaders, module)
        if stage == "validate":
            trainer.num_val_batches = [loader.length for loader in loaders]
        else:
            trainer.num_test_batches = [loader.length for loader in loaders]
        with isolated_random_state(), deferred_interrupt(trainer):
            loop = EvaluateLoop(trainer, module, loaders, name, trainer.inference_mode)
            setattr(trainer, f"{stage}_loop", loop)
            return loop.run()
    raise AssertionError("a session does not swallow exceptions")


def predict(
    trainer: Trainer,
    module: Module,
    dataloaders: Any,
    ckpt_path: Any,
    datamodule: DataModule | None,
    keep: bool,
    max_bytes: float,
) -> list[list[Any]]:
    """Predicts; returns for each loader the outputs by batch."""
    with session(trainer, "predict", module, datamodule):
        trainer.predicting = True
        _set_up(trainer, "predict", module, ckpt_path)
        loaders = load_evaluation(trainer, "predict", dataloaders, module)
        trainer.num_predict_batches = [loader.length for loader in loaders]
        with isolated_random_state(), deferred_interrupt(trainer):
            trainer.predict_loop = PredictLoop(trainer, module, loaders, trainer.inference_mode, keep, max_bytes)
            results = trainer.predict_loop.run()
        return _in_order(trainer, loaders, results) if keep else results
    raise AssertionError("a session does not swallow exceptions")


def _in_order(trainer: Trainer, loaders: list[Loader], results: list[list[Any]]) -> list[list[Any]]:
    """The predictions of all processes, on each of them, in the order of the loaders whose batches were dealt out."""
    found: list[list[Any]] = []
    for loader, own in zip(loaders, results, strict=True):
        if not loader.is_dealt:
            found.append(own)
            continue
        parts = trainer.strategy.all_gather_object(own)
        rounds = zip_longest(*parts, fillvalue=_NOTHING)
        found.append([batch for round_ in rounds for batch in round_ if batch is not _NOTHING])
    return found


_NOTHING = object()


def _default_limits(trainer: Trainer) -> None:
    if trainer.max_epochs_given is None:
        trainer.max_epochs = -1
        if trainer.max_steps == -1 and trainer.max_time is None:
            trainer.max_epochs = _DEFAULT_EPOCHS
            notify("LY006", f"neither max_epochs nor max_steps is given: training stops after {_DEFAULT_EPOCHS} epochs")


def _set_up(trainer: Trainer, stage: str, module: Module, ckpt_path: Any) -> dict[str, Any] | None:
    """From ``prepare_data`` to the module on its device with the checkpoint's weights, if there is one."""
    checkpoint = open_checkpoint(trainer, ckpt_path)
    if checkpoint is not None and stage == "fit":
        restore_seed(trainer, checkpoint)
    _agree(trainer)
    for owner in (trainer.datamodule, module):
        if (
            owner is not None
            and trainer.strategy.local_rank == 0
            and (owner.prepare_data_per_node or trainer.strategy.node_rank == 0)
        ):
            owner.prepare_data()
    trainer.strategy.barrier()
    trainer.bus.hook.setup(trainer=trainer, module=module, stage=stage)
    with trainer.strategy.module_context():
        module.configure_model()
    later = trainer.strategy.loads_after_setup
    if checkpoint is not None and not later:
        trainer.precision.convert_module(module)  # before loading, so that no weight is rounded on its way
        restore_weights(trainer, checkpoint)
        restore_callbacks(trainer, checkpoint)
    if trainer.sync_batchnorm:
        trainer.strategy.synchronize_batchnorm(module)
    trainer.strategy.setup(module, trainer.precision)
    if checkpoint is not None and later:
        restore_weights(trainer, checkpoint)
        restore_callbacks(trainer, checkpoint)
    return checkpoint


def _agree(trainer: Trainer) -> None:
    """Has every process go by rank 0's seed and directories."""
    # Of one process nobody asks for a directory before somebody needs it, for then it is made.
    directory, of_loggers = None, []
    if trainer.world_size > 1 and trainer.is_global_zero:
        directory, of_loggers = trainer.log_dir, [logger.log_dir for logger in trainer.loggers]
    agreed = trainer.strategy.broadcast((trainer.seed, directory, of_loggers))
    trainer.seed, trainer.agreed_log_dir, of_loggers = agreed
    trainer.history.seed = trainer.seed
    if not trainer.is_global_zero:
        for logger, log_dir in zip(trainer.loggers, of_loggers, strict=False):  # a script may have given rank 0 more of them
            if log_dir is not None:
                logger.follow(log_dir)


def _configure_optimizers(trainer: Trainer, module: Module) -> None:
    where = f"{type(module).__name__}.configure_optimizers"
    given = module.configure_optimizers()
    if given is None and module.automatic_optimization and any(p.requires_grad for p in module.parameters()):
        notify("LY038", f"{where} returned None, so that nothing is updated; end it with `return optimizer`, or with `return []`")
    found: Optimization = read_optimizers(given, where)
    optimizers = trainer.strategy.setup_optimizers(module, found.optimizers)
    trainer.optimizers = returned(optimizers, trainer.strategy, "setup_optimizers", list, "the list of optimizers to step")
    trainer.lr_scheduler_configs = found.schedulers
    trainer.optimizer_frequencies = found.frequencies
    trainer.progress.optimizer_steps = [0] * len(trainer.optimizers)
    trainer.precision.check(trainer.optimizers, trainer.strategy.device.type)


def _introduce_to_loggers(trainer: Trainer, module: Module) -> None:
    if not trainer.is_global_zero:
        return
    params: dict[str, Any] = {}
    if trainer.enable_autolog_hparams:
        for owner in (trainer.datamodule, module):
            if owner is not None and owner._log_hyperparams:
                params.update(owner.hparams_initial)
    for logger in trainer.quarantine.active(trainer.loggers):
        if trainer.enable_autolog_hparams:
            logger.log_hyperparams(params)
        logger.log_graph(module)
        logger.save()


def _sanity_check(trainer: Trainer, module: Module, resumed: bool) -> EvaluateLoop | None:
    """Loads validation, and runs a little of it to find mistakes before training."""
    if not trainer.enable_validation:
        return None
    checks = bool(trainer.num_sanity_val_steps) and not resumed
    if checks:
        trainer.sanity_checking, trainer.training = True, False
        with isolated_random_state(), trainer.metrics.isolated():
            trainer.bus.hook.on_sanity_check_start(trainer=trainer, module=module)
            loop = _validation_loop(trainer, module)
            if loop is not None:
                trainer.num_sanity_val_batches = [min(length, trainer.num_sanity_val_steps) for length in trainer.num_val_batches]
                loop.run(trainer.num_sanity_val_batches)
            trainer.bus.hook.on_sanity_check_end(trainer=trainer, module=module)
        trainer.sanity_checking, trainer.training = False, True
        return loop
    load_train(trainer)
    return _validation_loop(trainer, module)


def _validation_loop(trainer: Trainer, module: Module) -> EvaluateLoop | None:
    loaders = load_validation(trainer, module)
    return EvaluateLoop(trainer, module, loaders, "validation", inference_mode=False) if loaders else None
