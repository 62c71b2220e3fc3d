"""Training: epochs, batches, validation when due, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from leyden.data.loaders import Loader, set_epoch
from leyden.data.source import bind_transfer, training_batches
from leyden.data.stages import load_train, load_validation
from leyden.loops.evaluate import EvaluateLoop
from leyden.loops.make_step import Step
from leyden.loops.reports import report_epoch
from leyden.loops.stopping import check_given, is_done, reads_of, stops_inside_epoch
from leyden.loops.usual_step import bind_training
from leyden.loops.validation_interval import validates_inside, validation_due, validation_interval
from leyden.metrics.store import TRAIN_BATCH, TRAIN_EPOCH
from leyden.module import Module
from leyden.progress import BATCH_END, BATCH_START, EPOCH_END, EPOCH_START, STEP, VALIDATION
from leyden.seeding import StepNumbers, seed_python

if TYPE_CHECKING:
    from leyden.loops.make_step import Step
    from leyden.optim.schedulers import Schedulers
    from leyden.trainer import Trainer


class FitLoop:
    """The loop of ``Trainer.fit``."""

    def __init__(
        self,
        trainer: Trainer,
        module: Module,
        loader: Loader,
        validation: EvaluateLoop | None,
        step: Step,
        schedulers: Schedulers,
    ) -> None:
        self.trainer = trainer
        self.module = module
        self.loader = loader
        self.validation = validation
        self.step = step
        self.schedulers = schedulers
        self.progress = trainer.progress
        self.transfer = bind_transfer(module, trainer.datamodule, trainer.strategy.device, trainer.profiler)
        self.deadline = None if trainer.max_time is None else time.monotonic() + trainer.max_time.total_seconds()
        self.validate_every = validation_interval(trainer, trainer.num_training_batches)
        self.validates_inside = validates_inside(trainer, self.validate_every)
        self.last_validation = time.monotonic()
        self.counts_samples = bool(trainer.loggers) or trainer.val_check_samples is not None
        """Whether samples are counted also where torch's sampler does not say how many a batch has."""
        self.numbers = StepNumbers(trainer.strategy.device, trainer.strategy.rank, trainer.seed)
        self.resumes: Callable[[], None] | None = None
        """Puts back, when training begins, what a checkpoint says of its moment."""
        self.kept_batch: tuple[Any] | None = None
        """The batch whose step a checkpoint was taken before, where reading it again would draw other random numbers."""
        self.warned_length = False
        self.how_to_step = f"{type(module).__name__}.training_step returned None for each; end it with `return loss`"
        """What to do where no batch leads to an optimizer step; empty once that was said."""
        self.loaded_in = trainer.progress.epoch
        """The epoch in which the loaders were asked for."""
        self.outputs: Any = None
        """What training on the running batch left for ``on_train_batch_end``."""
        self.fetched: Generator[tuple[Any, bool], None, None] | None = None
        self.stepped = False
        """Whether training on the running batch updated parameters."""
        self.cut = False  # whether training stops before the epoch's last batch, so that a resumed run goes on with the rest
        self.log_record = trainer.profiler.wrap(trainer.log_record, "[Log]record")
        for part, name, action in ((self, "_validate", "[Loop]validation"), (schedulers, "advance", "[Step]schedulers")):
            trainer.profiler.wrap_method(part, name, action)

    def run(self) -> None:
        """Trains until a limit is reached or ``trainer.should_stop`` is set."""
        with self._running():
            while self._begins_epoch():
                train = None  # bound when hooks of the epoch's start have said how many batches make a step
                for batch, batch_idx, is_last in self._epoch():
                    train = train or bind_training(self.step)
                    self.outputs, self.stepped = train(batch, batch_idx, is_last)
                    del batch  # freed before the next one is read
                self._end_epoch()

    def batches(self) -> Generator[tuple[Any, int, bool], None, None]:
        """Everything of a fit but the training of a batch, which whoever reads this does before asking for the next.

        They leave what hooks are to see in ``outputs``, and in ``stepped`` whether parameters were updated.

        Yields:
            A batch on its device, its index in the epoch, and whether the epoch ends with it.
        """
        with self._running():
            while self._begins_epoch():
                yield from self._epoch()
                self._end_epoch()

    @contextmanager
    def _running(self) -> Iterator[None]:
        """What comes before the first epoch and after the last."""
        trainer, module, hook = self.trainer, self.module, self.trainer.bus.hook
        trainer.metrics.enter(TRAIN_EPOCH)
        hook.on_train_start(trainer=trainer, module=module)
        if self.schedulers.epoch_plateau:
            trainer.bus.register(self.schedulers)
        if self.resumes is not None:
            self.resumes()
        try:
            yield
        finally:
            trainer.bus.unregister(self.schedulers)
            if self.fetched is not None:
                self.fetched.close()  # ends the loader's workers now, not when a traceback is forgotten
        if trainer.log_every_n_steps:  # the steps since the last log point are not dropped
            trainer.metrics.enter(TRAIN_BATCH)
            begun = self.progress.epoch if self.progress.batch else max(self.progress.epoch - 1, 0)
            self.log_record(trainer.metrics.step_record(), begun)
        trainer.metrics.enter(None)
        hook.on_train_end(trainer=trainer, module=module)

    def _begins_epoch(self) -> bool:
        """Whether there is another epoch, which then has new loaders if they are due and the samplers' attention."""
        if is_done(self) and not self.progress.moment:
            return False
        self._reload()
        set_epoch(self.loader.iterable, self.progress.epoch)
        return True

    def _epoch(self) -> Iterator[tuple[Any, int, bool]]:
        trainer, module, progress, metrics, step = self.trainer, self.module, self.progress, self.trainer.metrics, self.step
        calls, loader, numbers = trainer.bus.calls, self.loader, self.numbers
        moment = progress.moment  # of the checkpoint that the run goes on from, else empty
        if moment == EPOCH_END and (not self.cut or stops_inside_epoch(self)):
            return
        self.cut, moment = False, "" if moment == EPOCH_END else moment
        progress.moment = moment
        batch_idx, skipped = progress.batch, False
        if not batch_idx and not moment:
            if loader.draws_once:
                numbers.draw()
            metrics.enter(TRAIN_EPOCH)
            progress.moment = EPOCH_START
            trainer.bus.hook.on_train_epoch_start(trainer=trainer, module=module)
        schedulers, is_last = self.schedulers, batch_idx >= reads_of(self)
        by_step = schedulers.step
        metrics.enter(TRAIN_BATCH)
        if batch_idx and moment != BATCH_START and self.resumes is not None:
            self.resumes = None
            is_last |= trainer.is_last_batch
            if (moment and self._finish_batch(self.stepped, is_last)) or is_last:
                assert loader.stream is not None
                loader.stream.finish(progress.epoch, batch_idx, reads_of(self))
                return

        carries = trainer.carry_accumulation and progress.epoch + 1 != trainer.max_epochs  # the last window is always stepped
        batch_size, last_size = loader.batch_sizes()
        self.fetched = training_batches(trainer.strategy, loader, self.transfer, progress.epoch, batch_idx, self.kept_batch)
        self.kept_batch = None
        seed = loader.step_seed(progress.epoch)
        for batch, is_last in trainer.profiler.wrap_iterator(self.fetched, "[Data]train.fetch"):
            metrics.batch, metrics.batch_size = batch, last_size if is_last else batch_size
            samples = metrics.batch_size
            if samples is None:
                samples = metrics.count_batch() if self.counts_samples else 0
            progress.moment = BATCH_START
            for hook in calls.on_train_batch_start if moment != BATCH_START else ():
                if hook(trainer, module, batch, batch_idx) == -1:
                    skipped = True
            moment = ""
            if skipped:
                break
            trainer.is_last_batch = is_last

            self.stepped = False
            progress.moment = STEP
            if seed is not None:
                seed_python(seed + batch_idx)
            numbers.enter()
            yield batch, batch_idx, is_last and not carries
            numbers.leave()
            stepped = self.stepped
            if stepped and by_step:
                schedulers.advance_steps(step.stepped_optimizers)
            if is_last and schedulers.epoch:
                schedulers.advance(schedulers.epoch, progress.epoch + 1)
            progress.batch = batch_idx = batch_idx + 1
            progress.total_batches += 1
            progress.samples += samples
            progress.moment = BATCH_END

            for hook in calls.on_train_batch_end:
                hook(trainer, module, self.outputs, batch, batch_idx - 1)
            del batch  # freed before the next one is read
            metrics.batch = self.outputs = None
            if self._finish_batch(stepped, is_last):
                break
        metrics.batch = None
        if (is_last and not skipped) or stops_inside_epoch(self):
            self.cut = not is_last and not skipped
            if is_last and batch_idx != trainer.num_training_batches:
                check_given(self, batch_idx)
            return
        progress.moment = STEP
        if not carries and step.flush() and schedulers.step:  # a window that no last batch completed
            schedulers.advance_steps(step.stepped_optimizers)
        progress.moment = ""
        if not skipped:
            self._ended_early(batch_idx)

    def _finish_batch(self, stepped: bool, is_last: bool) -> bool:
        """What follows the last hook of a batch; returns whether training stops. A resumed run may begin here."""
        trainer, progress, schedulers, log_every = self.trainer, self.progress, self.schedulers, self.trainer.log_every_n_steps
        if progress.moment == BATCH_END:
            if stepped and log_every and progress.global_step % log_every == 0:
                self.log_record(trainer.metrics.step_record())
            may_validate = is_last or self.validates_inside or trainer.should_stop
            if may_validate and self.validation is not None and validation_due(self, is_last):
                progress.validation.clear()
                self._validate()
        else:
            self._validate()
        if stepped and schedulers.step_plateau:
            schedulers.advance(schedulers.step_plateau, progress.global_step)
        progress.moment = ""
        if trainer.interrupt_requested:
            trainer.stop_for_signal()
        may_stop = trainer.should_stop or progress.global_step >= trainer.max_steps != -1 or self.deadline is not None
        return may_stop and stops_inside_epoch(self)

    def _end_epoch(self) -> None:
        trainer, module, progress, metrics = self.trainer, self.module, self.progress, self.trainer.metrics
        if self.fetched is not None:
            self.fetched.close()
        report_epoch(self)
        metrics.enter(TRAIN_EPOCH)
        [results] = metrics.reduce_epoch(TRAIN_BATCH)  # before the hook, so that it finds this epoch's values
        if not progress.epoch_ended:
            progress.moment = EPOCH_END
            trainer.bus.hook.on_train_epoch_end(trainer=trainer, module=module)
        results.update(*metrics.reduce_epoch(TRAIN_EPOCH))
        wanted = metrics.to_loggers(TRAIN_BATCH, TRAIN_EPOCH)
        skipped = {"skipped_steps": float(progress.skipped_steps)} if progress.skipped_steps else {}
        self.log_record({key: value for key, value in results.items() if key in wanted} | skipped)
        metrics.reset(TRAIN_BATCH, TRAIN_EPOCH)
        progress.next_epoch()

    def _reload(self) -> None:
        """Asks for new loaders when ``reload_dataloaders_every_n_epochs`` says so."""
        every, epoch = self.trainer.reload_dataloaders_every_n_epochs, self.progress.epoch
        if not every or epoch == self.loaded_in or epoch % every:
            return
        self.loaded_in = epoch
        self.loader = load_train(self.trainer)
        self.validate_every = validation_interval(self.trainer, self.trainer.num_training_batches)
        if self.validation is not None:
            loaders = load_validation(self.trainer, self.module)
            self.validation = EvaluateLoop(self.trainer, self.module, loaders, "validation", inference_mode=False)

    def _ended_early(self, done: int) -> None:
        """The loader gave fewer batches than it said, so that nothing told the last one apart."""
        check_given(self, done)
        if self.schedulers.epoch:
            self.schedulers.advance(self.schedulers.epoch, self.progress.epoch + 1)
        if self.validation is not None and validation_due(self, True):
            trainer, progress = self.trainer, self.progress
            trainer.is_last_batch, self.stepped = True, False  # so that a run that is resumed inside ends the epoch after it
            progress.validation.clear()
            self._validate()
            progress.moment = ""

    # ---- validation ----

    def _validate(self) -> None:
        trainer, module, metrics = self.trainer, self.module, self.trainer.metrics
        assert self.validation is not None
        self.progress.moment = VALIDATION
        module.on_validation_model_zero_grad()
        trainer.validating = True
        try:
            self.validation.run(reduced=self._validated)
        finally:
            trainer.validating = False
        self.last_validation = time.monotonic()
        metrics.enter(TRAIN_BATCH)

    def _validated(self) -> None:
        """Steps schedulers before callbacks save what is to be resumed."""
        progress = self.progress
        progress.validated_at, progress.validated_samples = progress.global_step, progress.samples
        progress.validations += 1
        if self.schedulers.validation:
            self.schedulers.advance(self.schedulers.validation, progress.validations)
