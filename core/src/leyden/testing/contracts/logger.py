"""What core relies on in a logger."""

from __future__ import annotations

import copy
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leyden.logger import Logger
from leyden.testing.contracts.runs import (
    Breakdown,
    FailingModule,
    difference,
    files,
    introduced,
    plainly_trained,
    quiet,
    refusal,
    tiny,
    weights,
)

Series = dict[str, list[tuple[int, float]]]


class Recorder(Logger):
    """Keeps every record in memory, to compare with."""

    name = "recorder"

    def __init__(self) -> None:
        self.series: Series = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        for key, value in metrics.items():
            self.series.setdefault(key, []).append((step, value))


class Colour(enum.Enum):
    """A hyperparameter of a kind that no file format has."""

    RED = 1


class LoggerContract:
    """Subclass it as ``class TestAcme(LoggerContract)`` and return a logger from :meth:`logger`."""

    def logger(self, root: Path) -> Logger:
        """A new logger that writes, if it writes files, below ``root``."""
        raise NotImplementedError(f"{type(self).__name__}.logger must return the logger to test")

    def written(self, logger: Logger) -> Series | None:
        """What another process reads of this run: for each key ``(step, value)`` in order; None if that cannot be read here.

        Override it where you can: the contract then compares it with every record that was handed over.
        """
        return None

    def _compare(self, logger: Logger, recorder: Recorder) -> None:
        written = self.written(logger)
        if written is None:
            return
        for key, expected in recorder.series.items():
            found = written.get(key, [])
            assert [step for step, _ in found] == [step for step, _ in expected], (
                f"{key} was logged at steps {[step for step, _ in expected]} but reads back at {[step for step, _ in found]}"
            )
            for (step, value), (_, true) in zip(found, expected, strict=True):
                close = value == true or abs(value - true) <= 1e-5 * abs(true) or (value != value and true != true)
                assert close, f"{key} at step {step} is {true} but reads back as {value}"

    def test_says_who_it_is(self, tmp_path: Path) -> None:
        logger = self.logger(tmp_path)
        introduced(logger, Logger)

    def test_nothing_is_created_before_something_is_logged(self, tmp_path: Path) -> None:
        logger = self.logger(tmp_path)
        quiet(tmp_path, logger=logger)
        logger.save()
        logger.finalize("success")
        found = sorted(path.name for path in tmp_path.rglob("*"))
        assert not found, f"before anything was logged there are {found}"
        assert logger.log_dir is None or isinstance(logger.log_dir, str), f"log_dir is {logger.log_dir!r}, not a str"

    def test_every_record_of_a_run_can_be_read_back(self, tmp_path: Path) -> None:
        logger, recorder = self.logger(tmp_path), Recorder()
        quiet(tmp_path, logger=[logger, recorder], max_epochs=2, log_every_n_steps=1).fit(tiny())
        assert set(recorder.series) >= {"train_loss", "val_loss"}, f"core handed over {list(recorder.series)} only"
        self._compare(logger, recorder)

    def test_a_second_run_of_the_same_trainer_continues(self, tmp_path: Path) -> None:
        logger, recorder = self.logger(tmp_path), Recorder()
        trainer = quiet(tmp_path, logger=[logger, recorder], log_every_n_steps=1)
        module = tiny()
        trainer.fit(module)
        directory = logger.log_dir
        trainer.test(module, verbose=False)
        assert logger.log_dir == directory, f"log_dir was {directory!r} and is {logger.log_dir!r} in the second run"
        self._compare(logger, recorder)

    def test_training_goes_as_without_it(self, tmp_path: Path) -> None:
        module = tiny()
        quiet(tmp_path, logger=self.logger(tmp_path), log_every_n_steps=1).fit(module)
        apart = difference(weights(module), weights(plainly_trained(tmp_path)))
        assert apart == 0, f"with the logger the weights end {apart} from those without it"

    def test_takes_values_that_are_no_numbers(self, tmp_path: Path) -> None:
        logger, recorder = self._opened(tmp_path), Recorder()
        for metrics, step in (({"a": float("nan"), "epoch": 0.0}, 0), ({"a": float("inf"), "b": 1.0, "epoch": 0.0}, 1)):
            logger.log_metrics(dict(metrics), step)
            recorder.log_metrics(metrics, step)
        logger.save()
        logger.finalize("success")
        self._compare(logger, recorder)

    def test_takes_hyperparameters_of_any_kind(self, tmp_path: Path) -> None:
        logger = self._opened(tmp_path)
        params: dict[str, Any] = {
            "lr": 0.1, "name": "tiny", "none": None, "flag": True, "sizes": [1, 2], "path": Path("somewhere"),
            "nested": {"deep": {"er": 1}}, "colour": Colour.RED, "object": object(), "text": "x" * 2000,
        }  # fmt: skip
        before = copy.copy(params)
        logger.log_hyperparams(params)
        logger.log_hyperparams({})
        assert params == before, "log_hyperparams changed the mapping it was given"
        logger.save()
        logger.finalize("success")

    def test_leaves_the_metrics_it_is_given_alone(self, tmp_path: Path) -> None:
        logger = self._opened(tmp_path)
        metrics = {"a": 1.0, "epoch": 0.0}
        logger.log_metrics(metrics, 0)
        assert metrics == {"a": 1.0, "epoch": 0.0}, f"log_metrics changed the mapping it was given to {metrics}"
        logger.finalize("success")

    def test_what_was_saved_can_be_read_before_the_end(self, tmp_path: Path) -> None:
        logger, recorder = self._opened(tmp_path), Recorder()
        for one in (logger, recorder):
            one.log_metrics({"a": 1.0, "epoch": 0.0}, 0)
        logger.save()
        logger.save()
        self._compare(logger, recorder)
        logger.finalize("success")

    def test_a_failed_run_is_finalized_and_keeps_its_records(self, tmp_path: Path) -> None:
        logger, recorder = self.logger(tmp_path), Recorder()
        refusal(Breakdown, quiet(tmp_path, logger=[logger, recorder], log_every_n_steps=1).fit, tiny(FailingModule))
        self._compare(logger, recorder)

    def test_finalize_can_be_called_again(self, tmp_path: Path) -> None:
        logger = self._opened(tmp_path)
        logger.log_metrics({"a": 1.0, "epoch": 0.0}, 0)
        logger.finalize("success")
        before = files(tmp_path)
        logger.finalize("failed")
        assert set(files(tmp_path)) == set(before), "a second finalize created or deleted files"

    def _opened(self, root: Path) -> Logger:
        """A logger that a Trainer has connected."""
        logger = self.logger(root)
        quiet(root, logger=logger)
        return logger
