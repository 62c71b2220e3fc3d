"""Validation and test: every batch of every loader once, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from leyden.data.loaders import INFINITE, Loader, names_of
from leyden.data.source import batches, bind_transfer
from leyden.loops.signature import bind_step
from leyden.metrics.store import EVAL_BATCH, EVAL_EPOCH
from leyden.module import Module

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
        with evaluation_mode(module, stage), self.no_gradients():
            metrics.reset(EVAL_BATCH, EVAL_EPOCH)
            metrics.enter(EVAL_EPOCH)
            metrics.seen.clear()
            start(trainer=trainer, module=module)
            epoch_start(trainer=trainer, module=module)
            for dataloader_idx, loader in enumerate(self.loaders):
                metrics.enter(EVAL_BATCH, dataloader_idx, template=self.templates[dataloader_idx])
                self._run_loader(loader, dataloader_idx, limits[dataloader_idx] if limits else INFINITE)
            metrics.enter(EVAL_EPOCH)
            results = metrics.reduce_epoch(EVAL_BATCH)  # before the hook, so that it finds this evaluation's values
            epoch_end(trainer=trainer, module=module)
            results[0].update(*metrics.reduce_epoch(EVAL_EPOCH))
            metrics.enter(None)
            trainer.log_record(self._for_loggers(results))
            if reduced is not None:
                reduced()
            end(trainer=trainer, module=module)
            metrics.reset(EVAL_BATCH, EVAL_EPOCH)
        return results

    def _run_loader(self, loader: Loader, dataloader_idx: int, limit: int | float) -> None:
        trainer, module, metrics, step = self.trainer, self.module, self.trainer.metrics, self.step
        if limit < loader.length:
            loader = replace(loader, length=limit)
        calls = trainer.bus.calls
        validates = self.stage == "validation"
        several = self.several
        batch_size, last_size = loader.batch_sizes()
        with closing(batches(loader, self.transfer, trainer.strategy.device, dataloader_idx)) as fetched:
            for batch_idx, (batch, is_last) in enumerate(trainer.profiler.wrap_iterator(fetched, f"[Data]{self.stage}.fetch")):
                metrics.batch, metrics.batch_size = batch, last_size if is_last else batch_size
                for hook in calls.on_validation_batch_start if validates else calls.on_test_batch_start:
                    hook(trainer, module, batch, batch_idx, dataloader_idx)
                outputs = step(batch, batch_idx, dataloader_idx) if several else step(batch, batch_idx)
                for hook in calls.on_validation_batch_end if validates else calls.on_test_batch_end:
                    hook(trainer, module, outputs, batch, batch_idx, dataloader_idx)
                del batch, outputs  # freed before the next batch is read
                if trainer.interrupt_requested:
                    trainer.stop_for_signal()
                metrics.batch = None
                if not batch_idx:
                    metrics.seen.add(dataloader_idx)

    def _for_loggers(self, results: list[dict[str, float]]) -> dict[str, float]:
        wanted = self.trainer.metrics.to_loggers(EVAL_BATCH, EVAL_EPOCH)
        return {key: value for result in results for key, value in result.items() if key in wanted}
