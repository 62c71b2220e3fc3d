"""JSON lines: what a line is, and what survives."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from leyden import LeydenWarning, Trainer
from leyden.testing import TinyModule
from leyden_loggers import JSONLinesLogger
from leyden_loggers.json_lines_file import JSONLinesFile


def lines(directory):
    return [json.loads(line) for line in Path(directory, "metrics.jsonl").read_text().splitlines()]


def fit(root, ckpt_path=None, **arguments):
    torch.manual_seed(0)
    run = Trainer(**{
        "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
        "log_every_n_steps": 1, "max_epochs": 1, "logger": {"jsonl": {"version": 0}}, "default_root_dir": root, **arguments,
    })  # fmt: skip
    run.fit(TinyModule(), ckpt_path=ckpt_path)
    return run


def test_a_record_is_a_line_with_where_and_when(tmp_path):
    run = fit(tmp_path)
    first, *_, last = lines(run.log_dir)
    assert list(first) == ["step", "time", "batch", "samples", "train_loss", "epoch"]
    assert list(last) == ["step", "time", "batch", "samples", "val_loss", "val_acc", "epoch"]
    assert (first["step"], first["epoch"], first["batch"], first["samples"]) == (0, 0, 1, 4)
    assert [record["step"] for record in lines(run.log_dir)] == [0, 1, 2, 3, 3]
    times = [record["time"] for record in lines(run.log_dir)]
    assert times == sorted(times)


def test_numbers_come_back_bit_for_bit_and_a_line_is_json_of_every_reader(tmp_path):
    logger = JSONLinesLogger(tmp_path)
    logger.log_metrics({"third": 1 / 3, "tiny": 5e-324, "nan": math.nan, "inf": math.inf, "minus": -math.inf, "time": 7}, 2)
    text = Path(logger.log_dir, "metrics.jsonl").read_text()
    assert text == (
        '{"step": 2, "time": 7, "third": 0.3333333333333333, "tiny": 5e-324, '
        '"nan": "NaN", "inf": "Infinity", "minus": "-Infinity"}\n'
    )
    assert math.isnan(float("NaN"))


def test_a_fit_that_continues_from_a_checkpoint_leaves_the_lines_of_a_run_that_was_never_interrupted(tmp_path, capsys):
    whole = fit(tmp_path / "whole", max_epochs=3)
    cut = fit(tmp_path / "cut", max_epochs=1)
    cut.save_checkpoint(tmp_path / "one.ckpt")
    fit(tmp_path / "cut", ckpt_path=tmp_path / "one.ckpt", max_epochs=2)
    capsys.readouterr()
    fit(tmp_path / "cut", ckpt_path=tmp_path / "one.ckpt", max_epochs=3)
    path = tmp_path / "cut/leyden_logs/version_0/metrics.jsonl"
    assert f"5 row(s) from step 4 on were taken out of {str(path)!r}: the run continues there" in capsys.readouterr().err
    without_time = [[{k: v for k, v in record.items() if k != "time"} for record in lines(run.log_dir)] for run in (cut, whole)]
    assert without_time[0] == without_time[1]


def test_lines_of_other_making_are_left_alone_where_a_run_goes_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('# a note\n{"step": 0}\n{"step": 5}\n["step"]\n')
    assert JSONLinesFile(path).cut(3) == 1
    assert path.read_text() == '# a note\n{"step": 0}\n["step"]\n'


KILLED = """
import os, signal, sys
from leyden_loggers import JSONLinesLogger

logger = JSONLinesLogger(sys.argv[1], version=0, flush_every_n_records=10)
for step in range(57):
    logger.log_metrics({"loss": step / 7}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_one_interval_at_most_and_the_next_appends(tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert process.returncode == -signal.SIGKILL
    path = tmp_path / "leyden_logs/version_0/metrics.jsonl"
    assert [record["step"] for record in lines(path.parent)] == list(range(50))
    with path.open("a") as file:
        file.write('{"step": 50, "lo')
    logger = JSONLinesLogger(tmp_path, version=0)
    with pytest.warns(LeydenWarning, match="ended in the middle of a row"):
        logger.log_metrics({"loss": 1.0}, 51)
    assert [record["step"] for record in lines(path.parent)] == [*range(50), 51]
