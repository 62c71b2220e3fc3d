"""Prediction: every batch of every loader once, its outputs kept on the CPU."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from leyden.data.loaders import Loader, names_of
from leyden.data.source import batches, bind_transfer
from leyden.data.transfer import apply_to_tensors
from leyden.loops.evaluate import evaluation_mode, seed_of
from leyden.loops.signature import bind_step
from leyden.module import Module

if TYPE_CHECKING:
    from leyden.trainer import Trainer


class PredictLoop:
    """Runs ``predict_step``."""

    def __init__(
        self, trainer: Trainer, module: Module, loaders: list[Loader], inference_mode: bool, keep: bool, max_bytes: float
    ) -> None:
        """Binds what the batches need; ``keep`` says whether predictions are returned, and ``max_bytes`` how much of them."""
        self.trainer = trainer
        self.module = module
        self.loaders = loaders
        self.keep = keep
        self.max_bytes = max_bytes
        self.kept_bytes = 0
        self.several = len(loaders) > 1
        self.step = bind_step(trainer, module, "predict_step", several=self.several, names=names_of(loaders))
        self.transfer = bind_transfer(module, trainer.datamodule, trainer.strategy.device, trainer.profiler)
        self.no_gradients = torch.inference_mode if inference_mode else torch.no_grad

    def run(self) -> list[list[Any]]:
        """Predicts; returns for each loader the outputs by batch, empty lists if they are not kept."""
        trainer, module = self.trainer, self.module
        hook = trainer.bus.hook
        with evaluation_mode(module, "predict"), self.no_gradients():
            hook.on_predict_start(trainer=trainer, module=module)
            hook.on_predict_epoch_start(trainer=trainer, module=module)
            results = [self._run_loader(loader, index) for index, loader in enumerate(self.loaders)]
            hook.on_predict_epoch_end(trainer=trainer, module=module)
            hook.on_predict_end(trainer=trainer, module=module)
        return results

    def _run_loader(self, loader: Loader, dataloader_idx: int) -> list[Any]:
        trainer, module = self.trainer, self.module
        calls = trainer.bus.calls
        kept: list[Any] = []
        seed = seed_of(loader, trainer.strategy.device, 0)
        read = batches(loader, self.transfer, trainer.strategy.device, dataloader_idx, knows_last=False)
        with closing(read) as fetched:
            for batch_idx, (batch, _) in enumerate(trainer.profiler.wrap_iterator(fetched, "[Data]predict.fetch")):
                for hook in calls.on_predict_batch_start:
                    hook(trainer, module, batch, batch_idx, dataloader_idx)
                seed(batch_idx)
                outputs = self.step(batch, batch_idx, dataloader_idx) if self.several else self.step(batch, batch_idx)
                for hook in calls.on_predict_batch_end:
                    hook(trainer, module, outputs, batch, batch_idx, dataloader_idx)
                if self.keep:
                    kept.append(apply_to_tensors(outputs, self._to_cpu, whole=True))
                    if self.kept_bytes > self.max_bytes:
                        self._refuse(batch_idx, dataloader_idx)
                del batch, outputs  # freed before the next batch is read
                if trainer.interrupt_requested:
                    trainer.stop_for_signal()
        return kept

    def _to_cpu(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value.to("cpu")
        moved = value.device.type != "cpu"
        value = value.detach().cpu()
        if not moved or (value.layout is torch.strided and value.untyped_storage().nbytes() > value.nbytes):
            value = value.clone()  # what the module or the loader may use again; and a part of a tensor would keep all of it
        self.kept_bytes += value.nbytes
        return value

    def _refuse(self, batch_idx: int, dataloader_idx: int) -> None:
        loader = f" of {self.loaders[dataloader_idx].where}" if self.several else ""
        raise ValueError(
            f"the predictions up to batch {batch_idx}{loader} take {self.kept_bytes:,} bytes, more than predict() keeps "
            f"(max_bytes={self.max_bytes:,.0f}); pass return_predictions=False and write them as they come, in "
            f"on_predict_batch_end, or a larger max_bytes"
        )
