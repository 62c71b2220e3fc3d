"""Lines on the terminal."""

from __future__ import annotations

import io
import math
from datetime import datetime

import pytest
from leyden import Trainer
from leyden.testing import TinyModule
from leyden_loggers import ConsoleLogger

QUIET = {
    "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
    "log_every_n_steps": 2, "max_epochs": 1,
}  # fmt: skip


def test_a_run_prints_its_hyperparameters_and_a_line_for_each_record(capsys):
    run = Trainer(logger="console", **QUIET)
    history = run.fit(TinyModule(lr=0.25))
    first, second = history["train_loss"]
    loss, acc = history["val_loss"][0], history["val_acc"][0]
    assert capsys.readouterr().out.splitlines() == [
        "hyperparameters  lr 0.25",
        f"step 1  epoch 0  train_loss {first:.4g}",
        f"step 3  epoch 0  train_loss {second:.4g}",
        f"step 3  epoch 0  val_loss {loss:.4g}  val_acc {acc:.4g}",
    ]


def test_times_begin_each_line(capsys):
    started = datetime.now().replace(microsecond=0)
    Trainer(logger={"console": {"times": True}}, **QUIET).fit(TinyModule())
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line[19:29] for line in lines] == ["  step 1  ", "  step 3  ", "  step 3  "]
    assert all(started <= datetime.fromisoformat(line[:19]) <= datetime.now() for line in lines)


def test_keys_digits_stream_and_prefix():
    stream = io.StringIO()
    logger = ConsoleLogger(stream, keys=["p-val/*"], digits=2, prefix="p")
    logger.log_metrics({"val/loss": 0.12345, "val/nan": math.nan, "train": 1.0, "epoch": 3}, 7)
    logger.log_metrics({"train": 1.0}, 8)
    assert stream.getvalue() == "step 7  p-val/loss 0.12  p-val/nan nan\n"
    assert logger.experiment is stream


def test_a_record_is_one_line_whatever_its_keys_and_the_streams_encoding():
    raw = io.BytesIO()
    logger = ConsoleLogger(io.TextIOWrapper(raw, encoding="ascii", newline="\n"))
    logger.log_metrics({"train\nl\u00f6ss\x1b[31m": 1.5, "whole": 10**400}, 3)
    logger.log_hyperparams({"text": "two\nlines"})
    assert raw.getvalue() == (b"step 3  train\\nl\\xf6ss\\x1b[31m 1.5  whole inf\nhyperparameters  text two\\nlines\n")


def test_a_stream_needs_no_more_than_write():
    class Stream:
        def __init__(self):
            self.lines = []

        def write(self, text):
            self.lines.append(text)

    logger = ConsoleLogger(Stream())
    logger.log_metrics({"loss": 1.5}, 3)
    assert logger.stream.lines == ["step 3  loss 1.5\n"]


def test_a_binary_stream_is_refused():
    with pytest.raises(TypeError, match=r"expected 'stdout', 'stderr' or an open text file, got BytesIO "):
        ConsoleLogger(io.BytesIO())


def test_nested_hyperparameters_are_printed_flat_and_once_as_long_as_they_do_not_change(capsys):
    logger = ConsoleLogger("stderr")
    for params in ({"a": {"b": [1]}}, {"a": {"b": [1]}}, {"a": {"b": [2]}}, {}):
        logger.log_hyperparams(params)
    assert capsys.readouterr().err.splitlines() == ["hyperparameters  a/b [1]", "hyperparameters  a/b [2]"]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"stream": "out"}, ValueError, "ConsoleLogger(stream='out'): expected 'stdout', 'stderr' or an open text file"),
        ({"stream": 3}, TypeError, "ConsoleLogger(stream=3): expected 'stdout', 'stderr' or an open text file, got int 3"),
        ({"keys": "val/*"}, TypeError,
         "ConsoleLogger(keys='val/*'): expected a list of patterns such as ['val/*'], got str 'val/*'"),
        ({"keys": 3}, TypeError, "ConsoleLogger(keys=3): expected a list of patterns such as ['val/*'], got int 3"),
        ({"digits": 0}, ValueError, "ConsoleLogger(digits=0): expected an int >= 1, got int 0"),
        ({"times": 1}, TypeError, "ConsoleLogger(times=1): expected True or False, got int 1"),
        ({"prefix": 3}, TypeError, "ConsoleLogger(prefix=3): expected a str, got int 3"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options, kind, message):
    with pytest.raises(kind) as error:
        Trainer(logger={"console": options}, **QUIET)
    assert str(error.value) == message
