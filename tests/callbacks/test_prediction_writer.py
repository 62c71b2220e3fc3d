"""PredictionWriter and the one that writes files: what is written, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from leyden import Trainer
from leyden.testing import RandomData, TinyModule
from leyden_callbacks import PredictionWriter, TorchPredictionWriter
from torch.utils.data import DataLoader

QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


def loader(length: int = 8, seed: int = 3) -> DataLoader[Any]:
    return DataLoader(RandomData(length, seed=seed), batch_size=4)


class Noting(PredictionWriter):
    """Notes what it is given."""

    def __init__(self, write_interval: str) -> None:
        super().__init__(write_interval)
        self.batches: list[tuple[Any, Any, int, int]] = []
        self.epochs: list[list[Any]] = []

    def write_on_batch_end(
        self, trainer: Any, module: Any, prediction: Any, batch: Any, batch_idx: int, dataloader_idx: int
    ) -> None:
        self.batches.append((prediction, batch, batch_idx, dataloader_idx))

    def write_on_epoch_end(self, trainer: Any, module: Any, predictions: list[Any]) -> None:
        self.epochs.append(predictions)


def predict(writer: Any, loaders: Any = None, **options: Any) -> Any:
    trainer = Trainer(**QUIET, callbacks=writer, **options)
    return trainer.predict(TinyModule(), loader() if loaders is None else loaders)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other)


def test_each_batch_is_written_when_it_is_predicted():
    writer = Noting("batch")
    predictions = predict(writer)
    assert [(index, loader_index) for _, _, index, loader_index in writer.batches] == [(0, 0), (1, 0)]
    assert equal([prediction for prediction, *_ in writer.batches], predictions)
    assert equal([batch[0] for _, batch, *_ in writer.batches], [batch[0] for batch in loader()])
    assert writer.epochs == []


def test_an_epoch_is_written_at_its_end():
    writer = Noting("epoch")
    predictions = predict(writer)
    assert writer.batches == []
    (written,) = writer.epochs
    assert equal(written, predictions)


def test_both_are_written():
    writer = Noting("batch_and_epoch")
    predict(writer)
    assert (len(writer.batches), len(writer.epochs)) == (2, 1)


def test_several_loaders_are_several_lists():
    writer = Noting("batch_and_epoch")
    predictions = predict(writer, [loader(), loader(4, seed=4)])
    assert [(index, loader_index) for _, _, index, loader_index in writer.batches] == [(0, 0), (1, 0), (0, 1)]
    assert [len(found) for found in writer.epochs[0]] == [2, 1]
    assert equal(writer.epochs[0], predictions)


def test_predictions_are_written_where_the_trainer_keeps_none():
    writer = Noting("epoch")
    trainer = Trainer(**QUIET, callbacks=writer)
    assert trainer.predict(TinyModule(), loader(), return_predictions=False) is None
    assert len(writer.epochs[0]) == 2


def test_a_second_run_starts_anew():
    writer = Noting("epoch")
    trainer = Trainer(**QUIET, callbacks=writer)
    for _ in range(2):
        trainer.predict(TinyModule(), loader())
    assert [len(found) for found in writer.epochs] == [2, 2]


def test_what_a_failed_run_left_is_not_written():
    class Failing(TinyModule):
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            if self.fails and batch_idx == 1:
                raise RuntimeError("no more")
            return super().predict_step(batch, batch_idx)

    writer, module = Noting("epoch"), Failing()
    trainer = Trainer(**QUIET, callbacks=writer)
    module.fails = True
    with pytest.raises(RuntimeError, match="no more"):
        trainer.predict(module, loader())
    module.fails = False
    predictions = trainer.predict(module, loader())
    assert equal(writer.epochs, [predictions])


def test_nothing_is_kept_for_an_epoch_that_is_not_written():
    writer = Noting("batch")
    kept: list[Any] = []

    class Looking(TinyModule):
        def on_predict_epoch_end(self) -> None:
            kept.extend(value for value in vars(writer).values() if isinstance(value, list) and value and value[0] != [])

    writer.batches.clear()
    Trainer(**QUIET, callbacks=writer).predict(Looking(), loader())
    assert kept == [writer.batches]


# ---- files ----


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_epoch_is_one_file(tmp_path):
    predictions = predict({"prediction_writer": {"output_dir": tmp_path / "out"}})
    assert files(tmp_path / "out") == ["predictions.pt"]
    assert equal(torch.load(tmp_path / "out" / "predictions.pt"), predictions)


def test_each_batch_is_a_file(tmp_path):
    predictions = predict(TorchPredictionWriter(tmp_path, "batch"))
    assert files(tmp_path) == ["batch_0.pt", "batch_1.pt"]
    assert equal([torch.load(tmp_path / name) for name in files(tmp_path)], predictions)


def test_batches_of_several_loaders_have_the_loader_in_their_name(tmp_path):
    predict(TorchPredictionWriter(tmp_path, "batch_and_epoch"), [loader(), loader(4)])
    assert files(tmp_path) == ["loader_0_batch_0.pt", "loader_0_batch_1.pt", "loader_1_batch_0.pt", "predictions.pt"]


def test_without_a_directory_files_are_in_the_run_s(tmp_path):
    predict("prediction_writer", default_root_dir=tmp_path)
    assert files(tmp_path / "predictions") == ["predictions.pt"]


def test_it_writes_nothing_while_training(tmp_path):
    trainer = Trainer(**QUIET, callbacks=TorchPredictionWriter(tmp_path / "out"), max_epochs=1, enable_model_summary=False)
    trainer.fit(TinyModule())
    assert not (tmp_path / "out").exists()


# ---- bad input ----


def test_an_unknown_interval_is_refused():
    with pytest.raises(ValueError) as caught:
        Noting("epochs")
    assert str(caught.value) == (
        "Noting(write_interval='epochs'): expected 'batch', 'epoch' or 'batch_and_epoch'; did you mean 'epoch'?"
    )


def test_a_directory_that_is_none_is_refused():
    with pytest.raises(TypeError) as caught:
        TorchPredictionWriter(3)  # type: ignore[arg-type]  # that is the point
    assert str(caught.value) == "TorchPredictionWriter(output_dir=3): expected a path, got int 3"


@pytest.mark.parametrize(("interval", "method"), [("batch", "write_on_batch_end"), ("epoch", "write_on_epoch_end")])
def test_a_writer_that_cannot_write_says_what_it_lacks(interval, method):
    with pytest.raises(NotImplementedError) as caught:
        predict(PredictionWriter(interval))
    assert str(caught.value) == f"PredictionWriter(write_interval={interval!r}) needs {method}"
