"""Predictions as a table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from leyden import Trainer
from leyden.testing import RandomData, TinyModule, run_ranks
from leyden_callbacks import CSVPredictions
from torch.utils.data import DataLoader

QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


class Returns(TinyModule):
    """Its predictions are what ``make`` makes of a batch's inputs and index."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def predict_step(self, batch, batch_idx):
        return self.make(batch[0], batch_idx)


def loader(length=6):
    return DataLoader(RandomData(length, seed=3), batch_size=4)


def written(make, loaders=None, path="predictions.csv"):
    callback = CSVPredictions(path)
    Trainer(callbacks=callback, **QUIET).predict(Returns(make), loaders or loader(), return_predictions=False)
    with Path(callback.written_path).open(newline="") as file:
        return list(csv.reader(file))


def test_a_tensor_is_one_column_with_a_row_for_each_sample():
    expected = torch.cat([x.sum(dim=1) for x, _ in loader()])
    header, *rows = written(lambda x, _: x.sum(dim=1))
    assert header == ["prediction"]
    assert [float(value) for (value,) in rows] == expected.tolist()


def test_several_numbers_a_sample_are_several_columns_and_texts_are_kept():
    def make(x, batch_idx):
        names = [f'{batch_idx}, "{index}"' for index in range(len(x))]
        return {"id": names, "out": x[:, :4].reshape(-1, 2, 2), "label": (x[:, 0] > 0).long()}

    header, *rows = written(make)
    assert header == ["id", "out_0", "out_1", "out_2", "out_3", "label"]
    assert [row[0] for row in rows] == ['0, "0"', '0, "1"', '0, "2"', '0, "3"', '1, "0"', '1, "1"']
    inputs = torch.cat([x for x, _ in loader()])
    assert [[float(value) for value in row[1:5]] for row in rows] == inputs[:, :4].tolist()
    assert [row[5] for row in rows] == [str(int(value > 0)) for value in inputs[:, 0]]


def test_several_loaders_have_a_column_that_tells_them_apart():
    header, *rows = written(lambda x, _: x.sum(dim=1), [loader(6), loader(2)])
    assert header == ["dataloader_idx", "prediction"]
    assert [row[0] for row in rows] == ["0"] * 6 + ["1"] * 2


def test_without_a_path_it_is_in_the_log_dir_of_the_run(tmp_path):
    callback = {"csv_predictions": {}}
    trainer = Trainer(callbacks=callback, default_root_dir=tmp_path, **{**QUIET, "logger": "csv"})
    trainer.predict(TinyModule(), return_predictions=False)
    assert len(Path(trainer.log_dir, "predictions.csv").read_text().splitlines()) == 9


def test_a_run_that_fails_leaves_no_file_and_none_of_an_earlier_run_is_touched(tmp_path):
    path = tmp_path / "out" / "predictions.csv"
    written(lambda x, _: x.sum(dim=1), path=path)
    before = path.read_text()

    def fail(x, batch_idx):
        if batch_idx == 1:
            raise KeyError("no")
        return x.sum(dim=1)

    with pytest.raises(KeyError):
        written(fail, path=path)
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == ["predictions.csv"]


def test_each_process_writes_the_samples_that_it_predicted(tmp_path):
    def rank(environment):
        callback = CSVPredictions(tmp_path / "predictions.csv")
        trainer = Trainer(callbacks=callback, strategy="ddp", devices=2, environment=environment, **QUIET)
        trainer.predict(Returns(lambda x, _: x.sum(dim=1)), loader(), return_predictions=False)

    run_ranks(rank, 2)
    values = []
    for index in range(2):
        values += [float(line) for line in (tmp_path / f"predictions_rank_{index}.csv").read_text().splitlines()[1:]]
    assert sorted(values) == sorted(torch.cat([x.sum(dim=1) for x, _ in loader()]).tolist())


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda x, _: x.sum(), TypeError,
         "a single tensor as 'prediction'; expected a tensor with a row for each sample, or a dict of such tensors and lists of "
         "plain values"),
        (lambda x, _: {"out": [x]}, TypeError, "list [Tensor of shape (4, 8)"),
        (lambda x, _: None, TypeError, "NoneType None as 'prediction'; expected a tensor"),
        (lambda x, _: {"a": x[:, 0], "b": [1]}, ValueError, "columns of different lengths: 'a' has 4, 'b' has 1"),
        (lambda x, i: {"ab"[i]: x[:, 0]}, ValueError, "columns 'b' for batch 1, and before 'a'"),
    ],
)  # fmt: skip
def test_what_is_no_table(make, kind, message):
    with pytest.raises(kind) as error:
        written(make)
    assert str(error.value).startswith(f"CSVPredictions: Returns.predict_step returned {message}")


def test_a_wrong_path(refusal):
    assert refusal(TypeError, CSVPredictions, 3) == "CSVPredictions(path=3): expected a path, got int 3"
