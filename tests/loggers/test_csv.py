"""Rows, columns and what survives."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from leyden import LeydenWarning
from leyden_loggers import CSVLogger
from leyden_loggers.metrics_file import MetricsFile


def rows(directory):
    """The table without its column of times."""
    with Path(directory, "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "time"} for row in csv.DictReader(file)]


def test_each_record_is_a_row_with_its_step(tmp_path):
    logger = CSVLogger(tmp_path, flush_every_n_records=1)
    logger.log_metrics({"loss": 0.1, "epoch": 0}, 49)
    logger.log_metrics({"loss": 0.25, "epoch": 1}, 99)
    assert rows(logger.log_dir) == [
        {"step": "49", "loss": "0.1", "epoch": "0"},
        {"step": "99", "loss": "0.25", "epoch": "1"},
    ]


def test_each_row_has_the_time_of_its_record(tmp_path):
    logger, before = CSVLogger(tmp_path, flush_every_n_records=2), time.time()
    logger.log_metrics({"loss": 0.1}, 0)
    between = time.time()
    logger.log_metrics({"loss": 0.2}, 1)
    with Path(logger.log_dir, "metrics.csv").open(newline="") as file:
        first, second = (float(row["time"]) for row in csv.DictReader(file))
    assert before <= first <= between <= second <= time.time()


def test_numbers_come_back_bit_for_bit(tmp_path):
    values = {"third": 1 / 3, "tiny": 5e-324, "nan": math.nan, "inf": math.inf, "minus": -math.inf}
    logger = CSVLogger(tmp_path)
    logger.log_metrics(values, 0)
    [row] = rows(logger.log_dir)
    assert {key: repr(float(row[key])) for key in values} == {key: repr(value) for key, value in values.items()}


def test_tensors_and_arrays_of_one_element_are_numbers(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": torch.tensor([0.5]), "b": np.float64(2.0), "c": np.array([3]), "d": torch.tensor(4)}, 0)
    assert rows(logger.log_dir) == [{"step": "0", "a": "0.5", "b": "2.0", "c": "3", "d": "4"}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("high", "str 'high'"),
        (torch.zeros(2), "Tensor of shape (2,) and float32"),
        (None, "NoneType None"),
        ({"a": 1}, "dict {'a': 1}"),
    ],
)
def test_what_is_no_number_is_refused(value, shown, tmp_path):
    with pytest.raises(TypeError) as error:
        CSVLogger(tmp_path).log_metrics({"loss": value}, 0)
    assert str(error.value) == f"log_metrics({{'loss': ...}}): expected a number or a tensor of one element, got {shown}"
    assert list(tmp_path.iterdir()) == []


def test_keys_that_appear_later_become_columns_of_all_rows(tmp_path):
    logger = CSVLogger(tmp_path, flush_every_n_records=1)
    logger.log_metrics({"train": 1.0}, 0)
    logger.log_metrics({"val": 2.0, "acc, top 1": 3.0}, 1)
    logger.log_metrics({"train": 4.0}, 2)
    assert [list(row.items()) for row in rows(logger.log_dir)] == [
        [("step", "0"), ("train", "1.0"), ("val", ""), ("acc, top 1", "")],
        [("step", "1"), ("train", ""), ("val", "2.0"), ("acc, top 1", "3.0")],
        [("step", "2"), ("train", "4.0"), ("val", ""), ("acc, top 1", "")],
    ]
    assert [path.name for path in Path(logger.log_dir).iterdir()] == ["metrics.csv"]


def test_known_keys_are_appended_without_reading_or_copying_the_file(tmp_path):
    logger = CSVLogger(tmp_path, flush_every_n_records=1)
    logger.log_metrics({"loss": 1.0}, 0)
    path = Path(logger.log_dir, "metrics.csv")
    before = path.stat().st_ino
    for step in range(1, 50):
        logger.log_metrics({"loss": 1.0}, step)
    assert path.stat().st_ino == before
    logger.log_metrics({"new": 1.0}, 50)
    assert path.stat().st_ino != before
    assert len(rows(logger.log_dir)) == 51


def test_a_metric_named_step_is_the_step(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0, "step": 7.0}, 3)
    assert rows(logger.log_dir) == [{"step": "7", "loss": "1.0"}]


def test_the_prefix_stands_before_each_key(tmp_path):
    logger = CSVLogger(tmp_path, prefix="a")
    logger.log_metrics({"loss": 1.0}, 3)
    assert rows(logger.log_dir) == [{"step": "3", "a-loss": "1.0"}]


def test_records_wait_until_there_are_enough_of_them(tmp_path):
    logger = CSVLogger(tmp_path, flush_every_n_records=3)
    for step in range(5):
        logger.log_metrics({"loss": 1.0}, step)
    assert [row["step"] for row in rows(logger.log_dir)] == ["0", "1", "2"]
    logger.save()
    assert [row["step"] for row in rows(logger.log_dir)] == ["0", "1", "2", "3", "4"]


def test_finalize_writes_the_rest_and_a_later_run_of_the_logger_appends(tmp_path):
    logger = CSVLogger(tmp_path, flush_every_n_records=100)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    logger.log_metrics({"loss": 2.0, "acc": 3.0}, 1)
    logger.finalize("success")
    assert rows(logger.log_dir) == [{"step": "0", "loss": "1.0", "acc": ""}, {"step": "1", "loss": "2.0", "acc": "3.0"}]


def test_another_run_of_the_same_version_appends(tmp_path):
    CSVLogger(tmp_path, version=0).log_metrics({"loss": 1.0}, 0)
    CSVLogger(tmp_path, version=0).log_metrics({"acc": 2.0}, 1)
    assert rows(tmp_path / "leyden_logs/version_0") == [
        {"step": "0", "loss": "1.0", "acc": ""},
        {"step": "1", "loss": "", "acc": "2.0"},
    ]


KILLED = """
import os, signal, sys
from leyden_loggers import CSVLogger

logger = CSVLogger(sys.argv[1], version=0, flush_every_n_records=int(sys.argv[2]))
for step in range(57):
    logger.log_metrics({"loss": step / 7, **({"val": 1.0} if step == 30 else {})}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_step_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^log_metrics\(\{'step': nan\}\): the step is no whole number$"):
        CSVLogger(tmp_path).log_metrics({"loss": 1.0}, float("nan"))
    with pytest.raises(TypeError, match=r"^log_metrics\(\{'step': ...\}\): expected a number or a tensor of one element, got "):
        CSVLogger(tmp_path).log_metrics({"loss": 1.0}, None)


def test_a_key_with_half_a_character_is_written_with_its_number(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a\ud800": 1.0}, 0)
    assert rows(logger.log_dir) == [{"step": "0", "a\\ud800": "1.0"}]


def test_two_runs_in_one_version_are_told_and_neither_writes_over_the_other(tmp_path):
    one, other = (CSVLogger(tmp_path, version=0, flush_every_n_records=1) for _ in range(2))
    one.log_metrics({"loss": 1.0}, 0)
    other.log_metrics({"acc": 2.0}, 0)
    with pytest.warns(LeydenWarning, match=r"^something else wrote to '.*metrics.csv' while .* a version of its own$"):
        one.log_metrics({"loss": 3.0, "late": 4.0}, 1)
    with pytest.warns(LeydenWarning, match=r"^something else wrote to "):
        other.log_metrics({"acc": 5.0}, 1)
    one.log_metrics({"loss": 6.0}, 2)  # said once
    assert [{key: value for key, value in row.items() if value} for row in rows(one.log_dir)] == [
        {"step": "0", "loss": "1.0"}, {"step": "0", "acc": "2.0"}, {"step": "1", "loss": "3.0", "late": "4.0"},
        {"step": "1", "acc": "5.0"}, {"step": "2", "loss": "6.0"},
    ]  # fmt: skip


BUSY = """
import sys, warnings
from leyden_loggers import JSONLinesLogger

warnings.simplefilter("ignore")
logger = JSONLinesLogger(sys.argv[1], version=0, flush_every_n_records=1)
logger.log_metrics({"loss": 1.0}, 0)
print("ready", flush=True)
sys.stdin.readline()
for step in range(1, 300):
    logger.log_metrics({"loss": step / 7, "who": int(sys.argv[2])}, step)
"""


def test_processes_that_write_to_one_file_at_once_leave_whole_lines(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BUSY, str(tmp_path), str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    assert [process.stdout.readline() for process in started] == ["ready\n"] * 2
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate()
    lines = (tmp_path / "leyden_logs/version_0/metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert sorted((record["who"], record["step"]) for record in found if "who" in record) == [
        (who, step) for who in range(2) for step in range(1, 300)
    ]


@pytest.mark.parametrize(("interval", "kept"), [(1, 57), (10, 50)])
def test_a_killed_process_loses_one_interval_at_most(interval, kept, tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(interval)])
    assert process.returncode == -signal.SIGKILL
    found = rows(tmp_path / "leyden_logs/version_0")
    assert [row["step"] for row in found] == [str(step) for step in range(kept)]
    assert [row["loss"] for row in found] == [repr(step / 7) for step in range(kept)]


def test_a_row_that_a_killed_process_left_unfinished_is_taken_out(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n0,1.0\n1,0.1234")
    with pytest.warns(LeydenWarning) as warned:
        file = MetricsFile(path)
    assert [str(warning.message) for warning in warned] == [
        f"{str(path)!r} ended in the middle of a row, as after a kill or on a full disk; that row was taken out"
    ]
    file.append([{"step": 2, "loss": 3.0}])
    assert path.read_text() == "step,loss\n0,1.0\n2,3.0\n"


def test_an_empty_file_is_started_anew(tmp_path):
    (tmp_path / "metrics.csv").touch()
    MetricsFile(tmp_path / "metrics.csv").append([{"step": 0, "loss": 1.0}])
    assert (tmp_path / "metrics.csv").read_text() == "step,loss\n0,1.0\n"


def test_a_table_of_other_making_gains_columns(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(b"epoch,step,loss\r\n0,1,0.5\r\n")
    MetricsFile(tmp_path / "metrics.csv").append([{"step": 2, "acc": 1.0}])
    assert rows(tmp_path) == [
        {"epoch": "0", "step": "1", "loss": "0.5", "acc": ""},
        {"epoch": "", "step": "2", "loss": "", "acc": "1.0"},
    ]


def test_a_run_directory_deleted_while_training_is_made_again(tmp_path):
    logger = CSVLogger(tmp_path, flush_every_n_records=1)
    logger.log_metrics({"loss": 1.0}, 0)
    shutil.rmtree(tmp_path / "leyden_logs")
    with pytest.warns(LeydenWarning, match="was deleted while the run wrote to it; it was made again"):
        logger.log_metrics({"loss": 2.0}, 1)
    logger.log_metrics({"loss": 3.0}, 2)
    assert rows(logger.log_dir) == [{"step": "1", "loss": "2.0"}, {"step": "2", "loss": "3.0"}]


def test_a_file_deleted_while_training_is_made_again(tmp_path):
    logger = CSVLogger(tmp_path, flush_every_n_records=1)
    logger.log_metrics({"loss": 1.0}, 0)
    path = Path(logger.log_dir, "metrics.csv")
    path.unlink()
    with pytest.warns(LeydenWarning) as warned:
        logger.log_metrics({"loss": 2.0}, 1)
    assert [str(warning.message) for warning in warned] == [
        f"{str(path)!r} was deleted while the run wrote to it; it was made again and has only what is logged from now on"
    ]
    assert rows(logger.log_dir) == [{"step": "1", "loss": "2.0"}]


FULL_DISK = """
import resource, signal, sys
from leyden_loggers import CSVLogger

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = CSVLogger(sys.argv[1], version=0, flush_every_n_records=1)
logger.log_metrics({"loss": 1.0, "time": 0}, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (24, resource.RLIM_INFINITY))
try:
    logger.log_metrics({"loss": 0.123456789, "time": 1}, 1)
except OSError as error:
    print(error)
print(open(logger.log_dir + "/metrics.csv").read(), end="")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logger.finalize("failed")
print(open(logger.log_dir + "/metrics.csv").read(), end="")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_row_that_does_not_fit_on_the_disk_leaves_no_part_and_is_written_when_there_is_room(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True)
    path = tmp_path / "leyden_logs/version_0/metrics.csv"
    assert done.stdout.splitlines() == [
        f"[Errno 27] the logger cannot write to {str(path)!r}: File too large; "
        f"pass a save_dir that can be written to, or logger=False",
        "step,time,loss",
        "0,0,1.0",
        "step,time,loss",
        "0,0,1.0",
        "1,1,0.123456789",
    ]


def test_rows_from_a_step_on_can_be_taken_out(tmp_path, capsys):
    logger = CSVLogger(tmp_path, version=0, flush_every_n_records=1)
    for step in (0, 1, 2, 3):
        logger.log_metrics({"loss": float(step)}, step)
    logger.rewind(2)
    logger.log_metrics({"loss": 9.0}, 2)
    assert [(row["step"], row["loss"]) for row in rows(logger.log_dir)] == [("0", "0.0"), ("1", "1.0"), ("2", "9.0")]
    path = Path(logger.log_dir, "metrics.csv")
    assert (
        capsys.readouterr().err == f"leyden: 2 row(s) from step 2 on were taken out of {str(path)!r}: the run continues there\n"
    )


def test_hparams_are_written_beside_the_table(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.1, "sizes": [1, 2]})
    assert (tmp_path / "leyden_logs/version_0/hparams.yaml").read_text() == "lr: 0.1\nsizes:\n  - 1\n  - 2\n"
