"""Our loggers keep the contract."""

from __future__ import annotations

import csv
from pathlib import Path

from leyden.testing import LoggerContract
from leyden_loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator


class TestTensorBoard(LoggerContract):
    def logger(self, root):
        return TensorBoardLogger(root)

    def written(self, logger):
        events = EventAccumulator(logger.log_dir, size_guidance={SCALARS: 0})
        events.Reload()
        return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


class TestCSV(LoggerContract):
    def logger(self, root):
        return CSVLogger(root)

    def written(self, logger):
        series = {}
        with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                step = int(row.pop("step"))
                for key, value in row.items():
                    if value:
                        series.setdefault(key, []).append((step, float(value)))
        return series
