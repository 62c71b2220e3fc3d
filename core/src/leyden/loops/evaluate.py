"""Validation and test: every batch of every loader once, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from leyden.data.loaders import INFINITE, Loader, names_of, set_epoch
from leyden.data.source import batches, bind_transfer
from leyden.loops.signature import bind_step
from leyden.metrics.store import EVAL_BATCH, EVAL_EPOCH
from leyden.module import Module
from leyden.progress import END, EVAL_BATCH_END, EVAL_BATCH_START, EVAL_END, EVAL_START, START, STEP, EvaluationProgress
from leyden.seeding import device_generators, seed_python

if TYPE_CHECKING:
    from leyden.trainer import Trainer


@contextmanager
def evaluation_mode(module: Module, stage: str) -> Iterator[None]:
    """Sets eval mode by the module's own method, and afterwards puts back the mode of every submodule."""
    modes = [(child, child.training) for child in module.modules()]
    getattr(module, f"on_{stage}_model_eval")()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training
        getattr(module, f"on_{stage}_model_train")()


def seed_of(loader: Loader, device: torch.device, epoch: int) -> Callable[[int], None]:
    """A function that seeds torch, and where the data may have drawn from them numpy and ``random``, for the step of a batch."""
    stream = loader.stream
    assert stream is not None
    generators, first, seeds_python = device_generators(device), stream.seeds.own("step", stream.purpose, epoch), stream.draws

    def seed(batch_idx: int) -> None:
        for generator in generators:
            generator.manual_seed(first + batch_idx)
        if seeds_python:
            seed_python(first + batch_idx)

    return seed


class EvaluateLoop:
    """Runs ``validation_step`` or ``test_step``."""

    def __init__(self, trainer: Trainer, module: Module, loaders: list[Loader], stage: str, inference_mode: bool) -> None:
        """Binds what the batches need.

        Args:
            trainer: the run.
            module: the module of the run.
            loaders: what to read, in order.
            stage: ``"validation"`` or ``"test"``.
            inference_mode: whether gradients are off by ``torch.inference_mode`` or by ``torch.no_grad``.
        """
        self.trainer = trainer
        self.module = module
        self.loaders = loaders
        self.stage = stage
        self.several = len(loaders) > 1
        names = names_of(loaders)
        self.step: Callable[..., Any] = bind_step(trainer, module, f"{stage}_step", several=self.several, names=names)
        template = trainer.loader_key_template if self.several else "{name}"
        self.templates = [template.replace("{loader}", name) for name in names]
        """What the keys of each loader's values are made of."""
        self.transfer = bind_transfer(module, trainer.datamodule, trainer.strategy.device, trainer.profiler)
        self.no_gradients: Callable[[], Any] = torch.inference_mode if inference_mode else torch.no_grad

    def run(self, limits: list[int | float] | None = None, reduced: Callable[[], None] | None = None) -> list[dict[str, float]]:
        """Evaluates.

        Args:
            limits: batches of each loader, if fewer than it has.
            reduced: called once ``callback_metrics`` has every value, before the last hook.

        Returns:
            For each loader the values logged for the epoch, by key.
        """
        trainer, module, metrics = self.trainer, self.module, self.trainer.metrics
        hook = trainer.bus.hook
        stage = self.stage
        start, epoch_start, epoch_end, end = (
            (hook.on_validation_start, hook.on_validation_epoch_start, hook.on_validation_epoch_end, hook.on_validation_end)
            if stage == "validation"
            else (hook.on_test_start, hook.on_test_epoch_start, hook.on_test_epoch_end, hook.on_test_end)
        )
        place = trainer.progress.validation if trainer.fit_loop is not None else EvaluationProgress()
        moment = place.moment  # of the checkpoint that the run goes on from, else empty
        with evaluation_mode(module, stage), self.no_gradients():
            metrics.enter(EVAL_EPOCH)
            if not moment:
                metrics.reset(EVAL_BATCH, EVAL_EPOCH)
                metrics.seen.clear()
                place.moment = START
                start(trainer=trainer, module=module)
            if moment in ("", START):
                place.moment = EVAL_START
                epoch_start(trainer=trainer, module=module)
            while place.dataloader_idx < len(self.loaders):
                dataloader_idx = place.dataloader_idx
                metrics.enter(EVAL_BATCH, dataloader_idx, template=self.templates[dataloader_idx])
                self._run_loader(self.loaders[dataloader_idx], place, limits[dataloader_idx] if limits else INFINITE)
                place.dataloader_idx, place.batch = dataloader_idx + 1, 0
            metrics.enter(EVAL_EPOCH)
            if moment != END:
                results = metrics.reduce_epoch(EVAL_BATCH)  # before the hook, so that it finds this evaluation's values
                if moment != EVAL_END:
                    place.moment = EVAL_END
                    epoch_end(trainer=trainer, module=module)
                results[0].update(*metrics.reduce_epoch(EVAL_EPOCH))
                metrics.enter(None)
                trainer.log_record(self._for_loggers(results))
                if reduced is not None:
                    reduced()
                place.moment = END
                end(trainer=trainer, module=module)
            else:
                results = [{}]
            metrics.reset(EVAL_BATCH, EVAL_EPOCH)
        return results

    def _run_loader(self, loader: Loader, place: EvaluationProgress, limit: int | float) -> None:
        trainer, module, metrics, step = self.trainer, self.module, self.trainer.metrics, self.step
        if limit < loader.length:
            loader = replace(loader, length=limit)
        calls, device, several = trainer.bus.calls, trainer.strategy.device, self.several
        starts, ends = "on_validation_batch_start", "on_validation_batch_end"
        if self.stage != "validation":
            starts, ends = "on_test_batch_start", "on_test_batch_end"
        moment, dataloader_idx, batch_idx = place.moment, place.dataloader_idx, place.batch
        batch_size, last_size = loader.batch_sizes()
        epoch = trainer.progress.epoch if trainer.stage == "fit" else 0
        seed = seed_of(loader, device, epoch)
        set_epoch(loader.iterable, epoch)
        read = batches(loader, self.transfer, device, dataloader_idx, epoch, done=batch_idx, knows_last=False)
        with closing(read) as fetched:
            for batch, is_last in trainer.profiler.wrap_iterator(fetched, f"[Data]{self.stage}.fetch"):
                metrics.batch, metrics.batch_size = batch, last_size if is_last else batch_size
                metrics.seen.add(dataloader_idx)
                place.moment = EVAL_BATCH_START
                for hook in getattr(calls, starts) if moment != EVAL_BATCH_START else ():
                    hook(trainer, module, batch, batch_idx, dataloader_idx)
                moment, place.moment = "", STEP
                seed(batch_idx)
                outputs = step(batch, batch_idx, dataloader_idx) if several else step(batch, batch_idx)
                place.batch = batch_idx + 1
                place.moment = EVAL_BATCH_END
                for hook in getattr(calls, ends):
                    hook(trainer, module, outputs, batch, batch_idx, dataloader_idx)
                batch_idx += 1
                del batch, outputs  # freed before the next batch is read
                if trainer.interrupt_requested:
                    trainer.stop_for_signal()
                metrics.batch = None
        if not batch_idx and loader.length and limit and trainer.world_size == 1:
            # Values of the evaluation before it would go for this one's.
            raise ValueError(
                f"{loader.where} gave no batch to {'validate' if self.stage == 'validation' else 'test'}; pass a DataLoader, a "
                f"list, or an iterable that starts anew each time (an iterator can be read once)"
            )
        seed(batch_idx)  # whatever draws next finds the generators alike, also in a run that was resumed behind the last batch

    def _for_loggers(self, results: list[dict[str, float]]) -> dict[str, float]:
        wanted = self.trainer.metrics.to_loggers(EVAL_BATCH, EVAL_EPOCH)
        return {key: value for result in results for key, value in result.items() if key in wanted}
