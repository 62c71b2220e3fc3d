"""The stranger's own test: each of its parts keeps the contract of its kind. Run where the package is installed."""

import json

from acme_leyden.parts import AcmeAccelerator, AcmeCallback, AcmeLogger, AcmePrecision, AcmeStrategy
from leyden.testing import AcceleratorContract, CallbackContract, LoggerContract, PrecisionContract, StrategyContract


class TestAccelerator(AcceleratorContract):
    def accelerator(self):
        return AcmeAccelerator()


class TestStrategy(StrategyContract):
    def strategy(self):
        return AcmeStrategy()


class TestPrecision(PrecisionContract):
    tolerance = 0.0

    def precision(self):
        return AcmePrecision()


class TestLogger(LoggerContract):
    def logger(self, root):
        root.mkdir(parents=True, exist_ok=True)
        return AcmeLogger(str(root / "acme.jsonl"))

    def written(self, logger):
        series = {}
        for line in logger.path.read_text().splitlines():
            record = json.loads(line)
            step = record.pop("step")
            for key, value in record.items():
                series.setdefault(key, []).append((step, value))
        return series


class TestCallback(CallbackContract):
    def callback(self):
        return AcmeCallback()
