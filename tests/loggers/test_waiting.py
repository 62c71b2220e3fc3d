"""Records that come fast are written together: how often, and when at the latest."""

from __future__ import annotations

import threading

import pytest
from leyden import Trainer
from leyden.testing import TinyModule
from leyden_loggers import CSVLogger, JSONLinesLogger, TensorBoardLogger, records
from leyden_loggers.records import RecordLogger


class Counted(RecordLogger):
    """Notes the steps of each write."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def _write(self, records):
        self.writes.append([record.step for record in records])


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests move."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

        def time(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(records, "time", made)
    return made


def test_a_record_is_written_at_once_unless_the_last_write_was_within_a_second(clock):
    logger = Counted()
    for step in range(50):
        logger.log_metrics({"loss": 1.0}, step)
        clock.now += 0.125
    assert logger.writes == [[0], *(list(range(start, start + 8)) for start in range(1, 49, 8))]
    clock.now += 60
    logger.log_metrics({"loss": 1.0}, 50)
    assert logger.writes[-1] == [49, 50]


def test_a_record_that_another_thread_logs_during_a_write_is_not_lost(clock):
    class Slow(Counted):
        def _write(self, records):
            if not self.writes:
                thread = threading.Thread(target=self.log_metrics, args=({"loss": 2.0}, 1))
                self.writes.append("begun")
                thread.start()
                thread.join()
                self.writes.clear()
            super()._write(records)

    logger = Slow()
    logger.log_metrics({"loss": 1.0}, 0)
    logger.save()
    assert logger.writes == [[0], [1]]


def test_save_and_finalize_write_what_waits(clock):
    logger = Counted()
    for step, write in enumerate([lambda: None, logger.save, lambda: logger.finalize("success")]):
        logger.log_metrics({"loss": 1.0}, step)
        write()
    assert logger.writes == [[0], [1], [2]]
    logger.save()
    assert logger.writes == [[0], [1], [2]]


@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger, TensorBoardLogger])
def test_reading_experiment_and_finalize_write_what_waits(kind, tmp_path, clock):
    logger = kind(tmp_path)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
    assert len(logger._waiting) == 2
    assert logger.experiment is not None
    assert logger._waiting == []
    logger.log_metrics({"loss": 1.0}, 3)
    assert len(logger._waiting) == 1
    logger.finalize("success")
    assert logger._waiting == []


def test_a_run_writes_once_an_epoch_where_epochs_take_no_second_and_before_a_checkpoint(tmp_path, clock):
    class Saving(TinyModule):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            if self.trainer.global_step == 6:
                self.trainer.save_checkpoint(tmp_path / "a.ckpt")

    logger = Counted()
    Trainer(
        logger=logger, accelerator="cpu", max_epochs=3, log_every_n_steps=1, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(Saving())  # fmt: skip
    # Of the checkpoint after step 5 the record of step 5 itself comes later: its log point is after the batch's last hook.
    assert logger.writes == [[0], [1, 2, 3, 3], [4], [5, 6, 7, 7], [8, 9, 10, 11, 11]]


def test_a_write_that_fails_keeps_its_records_for_the_next(clock):
    class Failing(Counted):
        fails = True

        def _write(self, records):
            if self.fails:
                raise OSError("disk full")
            super()._write(records)

    logger = Failing()
    with pytest.raises(OSError, match="disk full"):
        logger.log_metrics({"loss": 1.0}, 0)
    logger.fails = False
    logger.log_metrics({"loss": 1.0}, 1)
    logger.save()
    assert logger.writes == [[0, 1]]


@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger])
def test_a_hundred_records_of_one_second_are_two_writes_of_the_file(kind, tmp_path, monkeypatch, clock):
    logger = kind(tmp_path)
    writes, add = [], logger.experiment._add
    monkeypatch.setattr(logger.experiment, "_add", lambda data: writes.append(data.count(b"\n")) or add(data))
    opens, looked = [], logger.run_directory.open
    monkeypatch.setattr(logger.run_directory, "open", lambda: opens.append(1) or looked())
    for step in range(100):
        logger.log_metrics({"loss": 1.0, "epoch": 0}, step)
    logger.save()
    assert writes == [1, 99]
    assert len(opens) == 2


def test_tensorboard_looks_at_its_directory_once_for_a_hundred_records_of_one_second(tmp_path, monkeypatch, clock):
    logger = TensorBoardLogger(tmp_path)
    logger.experiment.flush()
    opens, looked = [], logger.run_directory.open
    monkeypatch.setattr(logger.run_directory, "open", lambda: opens.append(1) or looked())
    for step in range(100):
        logger.log_metrics({"loss": 1.0, "epoch": 0}, step)
    assert len(opens) == 1
    logger.finalize("success")
    assert len(opens) == 3
