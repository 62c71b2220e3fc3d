"""What the process that watches ranks finds where they are not all in the same run."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from leyden_strategies.launchers import watch
from leyden_strategies.launchers.board import END, Board, file_of
from leyden_strategies.launchers.report import Failure, say_last

SETUP, TRAINING = 1, 2


@pytest.fixture
def ranks(tmp_path):
    """Two processes that do nothing, and a function that makes the watch over them; no board moves any more."""
    processes = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)]

    def make(**options):
        pids = {rank: process.pid for rank, process in enumerate(processes)}
        return watch.Watch(tmp_path, pids, lambda rank: processes[rank].poll(), 0.2, **options)

    yield make
    for process in processes:
        process.kill()
        process.wait()


def at(directory, rank, runs, phase):
    board = Board(file_of(directory, rank, "board"))
    for _ in range(runs):
        board.begin()
    board.write(phase, 0, 0, 0)
    board.close()


ALIKE = "every rank has to call fit, validate, test and predict alike, also where only rank 0 uses what they return"


def test_a_rank_that_never_begins_the_run_is_what_the_others_wait_for(ranks, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "START_SECONDS", 0.3)
    at(tmp_path, 0, 1, SETUP)
    failure = ranks().run()
    assert isinstance(failure, Failure)
    assert failure.rank == 1
    assert re.fullmatch(
        rf"rank 1 \(pid \d+\) is not in the run in which rank 0 has waited for it for 0.5 s: {ALIKE}", failure.headline
    )


def test_a_rank_that_is_still_at_work_after_an_earlier_run_is_what_the_others_wait_for(ranks, tmp_path):
    at(tmp_path, 1, 2, SETUP)
    at(tmp_path, 0, 1, END)
    failure = ranks().run()
    assert isinstance(failure, Failure)
    assert re.fullmatch(
        rf"rank 0 \(pid \d+\) is not in the run in which rank 1 has waited for it for 0.2 s: {ALIKE}", failure.headline
    )


def test_all_that_were_ended_are_named_before_the_cause(ranks, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watch, "START_SECONDS", 0.0)
    at(tmp_path, 0, 1, SETUP)
    watched = ranks()
    failure = watched.run()
    assert isinstance(failure, Failure)
    say_last(failure, watched)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"leyden: rank 0 \(pid \d+\) was stopped because of rank 1", first)
    assert second.startswith("leyden: rank 1 ")


def test_a_rank_that_was_told_to_end_is_not_the_cause_where_another_one_failed_too(tmp_path):
    codes = {0: -signal.SIGTERM, 1: -signal.SIGKILL}
    for rank in codes:
        at(tmp_path, rank, 1, TRAINING)
    failure = watch.Watch(tmp_path, {0: 1, 1: 1}, codes.get, 60.0).run()
    assert isinstance(failure, Failure)
    assert failure.headline.startswith("rank 1 (pid 1) was killed by SIGKILL (out of memory?) at step 0")
    assert failure.code == 137


def test_a_long_traceback_that_no_file_takes_keeps_its_last_calls(tmp_path):
    board = Board(tmp_path / "board")
    board.report({"traceback": "\n".join(f"line {number}" for number in range(10_000)), "where": "here"})
    kept = Board(tmp_path / "board").reported()
    assert kept is not None
    assert kept["where"] == "here"
    assert kept["traceback"].endswith("line 9999")
    assert len(kept["traceback"]) > 8_000


def test_what_a_rank_told_of_one_run_is_forgotten_in_the_next(tmp_path):
    board = Board(tmp_path / "board")
    board.report({"traceback": "raised"})
    board.begin()
    assert board.reported() is None
