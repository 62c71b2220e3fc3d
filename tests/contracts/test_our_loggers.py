"""Our loggers keep the contract."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

from leyden.testing import LoggerContract
from leyden_loggers import ConsoleLogger, CSVLogger, JSONLinesLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator


class TestTensorBoard(LoggerContract):
    def logger(self, root):
        return TensorBoardLogger(root)

    def written(self, logger):
        events = EventAccumulator(logger.log_dir, size_guidance={SCALARS: 0})
        events.Reload()
        return {tag: sorted((event.step, event.value) for event in events.Scalars(tag)) for tag in events.Tags()["scalars"]}


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


class TestJSONLines(LoggerContract):
    def logger(self, root):
        return JSONLinesLogger(root)

    def written(self, logger):
        series = {}
        for line in (Path(logger.log_dir) / "metrics.jsonl").read_text().splitlines():
            record = json.loads(line)
            step = record.pop("step")
            for key, value in record.items():
                series.setdefault(key, []).append((step, float(value)))
        return series


class TestConsole(LoggerContract):
    def logger(self, root):
        return ConsoleLogger(io.StringIO(), digits=9)

    def written(self, logger):
        series = {}
        for line in logger.stream.getvalue().splitlines():
            found = re.match(r"step (\d+)  (.*)", line)
            if found is not None:
                for pair in found[2].split("  "):
                    key, value = pair.split(" ")
                    series.setdefault(key, []).append((int(found[1]), float(value)))
        return series
