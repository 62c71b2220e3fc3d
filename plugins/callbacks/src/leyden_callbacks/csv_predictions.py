"""Writes predictions as a table, a row for each sample."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from leyden import Callback
from leyden.messages import listed, shown
from torch import Tensor

if TYPE_CHECKING:
    from leyden import Module, Trainer


class CSVPredictions(Callback):
    """Writes what ``predict_step`` returns to a CSV file while it is made, so that it need not fit into memory.

    ``predict_step`` returns a tensor with a row for each sample, or a dict of such tensors, lists or tuples of one length. A
    column is a key of the dict, ``prediction`` where there is none; what has several numbers a sample has ``prediction_0``,
    ``prediction_1`` and so on. With several loaders ``dataloader_idx`` is the first column.

    Rows come in the order of the loader. With several processes each writes the samples that it predicted to a file of its
    own, with ``_rank_<rank>`` before the name's end; a key such as ``"id"`` says which they are.

    Args:
        path: a local file; ``predictions.csv`` in the run's ``log_dir`` if not given. It is there when all rows are.

    Raises:
        TypeError: ``path`` is no path.
    """

    name = "csv_predictions"

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if path is not None and not isinstance(path, str | os.PathLike):
            raise TypeError(f"{type(self).__name__}(path={path!r}): expected a path, got {shown(path)}")
        self.path = path
        self.written_path = ""
        """The file of the last run; empty before."""
        self._file: TextIO | None = None
        self._columns: list[str] = []

    def on_predict_start(self, trainer: Trainer, module: Module) -> None:
        """Opens the file under another name."""
        path = Path(self.path) if self.path is not None else Path(trainer.log_dir) / "predictions.csv"
        if trainer.world_size > 1:
            path = path.with_name(f"{path.stem}_rank_{trainer.global_rank}{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written_path, self._columns = str(path), []
        self._file = Path(f"{path}.part").open("w", newline="", encoding="utf-8")  # noqa: SIM115 - closed when predicting ends

    def on_predict_batch_end(
        self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Writes a row for each sample.

        Raises:
            TypeError: ``predict_step`` returned something else than columns.
            ValueError: its columns differ in length, or from those of an earlier batch.
        """
        where = f"{type(self).__name__}: {type(module).__name__}.predict_step returned"
        columns = dict(_columns(outputs, where))
        if len(trainer.num_predict_batches) > 1:
            length = max(map(len, columns.values()), default=0)
            columns = {"dataloader_idx": [dataloader_idx] * length, **columns}
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{where} columns of different lengths: {', '.join(f'{k!r} has {n}' for k, n in lengths.items())}")
        assert self._file is not None
        writer = csv.writer(self._file, lineterminator="\n")
        if not self._columns:
            self._columns = list(columns)
            writer.writerow(self._columns)
        if list(columns) != self._columns:
            raise ValueError(f"{where} columns {listed(columns)} for batch {batch_idx}, and before {listed(self._columns)}")
        writer.writerows(zip(*columns.values(), strict=True))

    def on_predict_end(self, trainer: Trainer, module: Module) -> None:
        """Gives the file its name."""
        if self._file is not None:
            self._close()
            Path(f"{self.written_path}.part").replace(self.written_path)

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Leaves nothing of a run that failed."""
        if self._file is not None:
            self._close()
            Path(f"{self.written_path}.part").unlink()
            self.written_path = ""

    def _close(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None


def _columns(outputs: Any, where: str) -> Iterator[tuple[str, list[Any]]]:
    """The columns of a batch, each with a value for each sample."""
    for key, values in outputs.items() if isinstance(outputs, Mapping) else [("prediction", outputs)]:
        if isinstance(values, Tensor) and values.dim() == 1:
            yield str(key), values.tolist()
        elif isinstance(values, Tensor) and values.dim() > 1:
            table = values.flatten(1)
            for index in range(table.shape[1]):
                yield f"{key}_{index}", table[:, index].tolist()
        elif isinstance(values, list | tuple) and not any(isinstance(value, Tensor | list | tuple | dict) for value in values):
            yield str(key), list(values)
        else:
            given = f"a {'x'.join(map(str, values.shape)) or 'single'} tensor" if isinstance(values, Tensor) else shown(values)
            raise TypeError(
                f"{where} {given} as {str(key)!r}; expected a tensor with a row for each sample, or a dict of such tensors and "
                f"lists of plain values"
            )
