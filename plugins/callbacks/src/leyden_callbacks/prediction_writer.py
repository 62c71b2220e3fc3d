"""Writes predictions while they are made, or when all are there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.data.transfer import apply_to_tensors
from leyden.messages import shown
from torch import Tensor

from leyden_callbacks.arguments import check_choice

if TYPE_CHECKING:
    from leyden import Module, Trainer

_INTERVALS = ("batch", "epoch", "batch_and_epoch")


class PredictionWriter(Callback):
    """Hands predictions to :meth:`write_on_batch_end`, :meth:`write_on_epoch_end` or both; override what is to be used.

    With several processes each writes what it predicted. ``trainer.predict(..., return_predictions=False)`` keeps nothing
    else, so that with ``"batch"`` the predictions need not fit into memory.

    Args:
        write_interval: ``"batch"``, ``"epoch"`` or ``"batch_and_epoch"``.

    Raises:
        ValueError: there is no such interval.
    """

    def __init__(self, write_interval: str = "batch") -> None:
        check_choice(type(self).__name__, "write_interval", write_interval, _INTERVALS)
        self.write_interval = write_interval
        self._kept: list[list[Any]] = []

    def write_on_batch_end(
        self, trainer: Trainer, module: Module, prediction: Any, batch: Any, batch_idx: int, dataloader_idx: int
    ) -> None:
        """Writes what ``predict_step`` returned for one batch.

        Args:
            trainer: the run.
            module: the module of the run.
            prediction: what it returned, on the device.
            batch: what it was given, on the device.
            batch_idx: the batch's index in its loader.
            dataloader_idx: the loader's index.
        """
        raise NotImplementedError(f"{type(self).__name__}(write_interval={self.write_interval!r}) needs write_on_batch_end")

    def write_on_epoch_end(self, trainer: Trainer, module: Module, predictions: list[Any]) -> None:
        """Writes what ``predict_step`` returned for all batches, on the CPU: a list by batch, or a list of such by loader."""
        raise NotImplementedError(f"{type(self).__name__}(write_interval={self.write_interval!r}) needs write_on_epoch_end")

    def on_predict_start(self, trainer: Trainer, module: Module) -> None:
        """Forgets an earlier run."""
        self._kept = [[] for _ in trainer.num_predict_batches]

    def on_predict_batch_end(
        self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Writes a batch's predictions, or keeps them."""
        if "batch" in self.write_interval:
            self.write_on_batch_end(trainer, module, outputs, batch, batch_idx, dataloader_idx)
        if "epoch" in self.write_interval:
            self._kept[dataloader_idx].append(apply_to_tensors(outputs, _to_cpu))

    def on_predict_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Writes all predictions."""
        if "epoch" in self.write_interval:
            kept, self._kept = self._kept, []
            self.write_on_epoch_end(trainer, module, kept[0] if len(kept) == 1 else kept)


class TorchPredictionWriter(PredictionWriter):
    """Writes predictions to files for ``torch.load``, on the CPU.

    ``"epoch"`` writes ``predictions.pt``, ``"batch"`` ``batch_<batch_idx>.pt``, with several loaders
    ``loader_<dataloader_idx>_batch_<batch_idx>.pt``; with several processes each name has ``_rank_<rank>`` before its end.

    Args:
        output_dir: a local directory; ``predictions`` in the run's ``log_dir`` if not given.
        write_interval: ``"epoch"``, ``"batch"`` or ``"batch_and_epoch"``.

    Raises:
        TypeError: ``output_dir`` is no path.
        ValueError: there is no such interval.
    """

    name = "prediction_writer"

    def __init__(self, output_dir: str | os.PathLike[str] | None = None, write_interval: str = "epoch") -> None:
        super().__init__(write_interval)
        if output_dir is not None and not isinstance(output_dir, str | os.PathLike):
            raise TypeError(f"{type(self).__name__}(output_dir={output_dir!r}): expected a path, got {shown(output_dir)}")
        self.output_dir = output_dir
        self._directory = Path()

    def on_predict_start(self, trainer: Trainer, module: Module) -> None:
        """Makes the directory."""
        super().on_predict_start(trainer, module)
        self._directory = Path(self.output_dir) if self.output_dir is not None else Path(trainer.log_dir) / "predictions"
        self._directory.mkdir(parents=True, exist_ok=True)

    def write_on_batch_end(
        self, trainer: Trainer, module: Module, prediction: Any, batch: Any, batch_idx: int, dataloader_idx: int
    ) -> None:
        """Writes one batch's file."""
        loader = f"loader_{dataloader_idx}_" if len(trainer.num_predict_batches) > 1 else ""
        self._write(trainer, f"{loader}batch_{batch_idx}", apply_to_tensors(prediction, _to_cpu))

    def write_on_epoch_end(self, trainer: Trainer, module: Module, predictions: list[Any]) -> None:
        """Writes the one file."""
        self._write(trainer, "predictions", predictions)

    def _write(self, trainer: Trainer, name: str, predictions: Any) -> None:
        rank = f"_rank_{trainer.strategy.rank}" if trainer.world_size > 1 else ""
        path = self._directory / f"{name}{rank}.pt"
        unfinished = path.with_suffix(".pt.part")  # whoever waits for the file never sees half of it
        torch.save(predictions, unfinished)
        unfinished.replace(path)


def _to_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value.to("cpu")
