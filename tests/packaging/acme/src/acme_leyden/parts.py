"""One component of each kind; each writes down that it was at work."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from leyden import Accelerator, Callback, Logger, Precision, Strategy

WITNESSED = []


class AcmeAccelerator(Accelerator):
    name = "acme"
    priority = 1000

    @classmethod
    def device_count(cls):
        return 2

    @classmethod
    def auto_device_count(cls):
        return 1

    def setup(self, device: torch.device) -> None:
        WITNESSED.append("accelerator")


class AcmeStrategy(Strategy):
    name = "acme"

    def setup(self, module, precision) -> None:
        WITNESSED.append("strategy")
        super().setup(module, precision)


class AcmePrecision(Precision):
    name = "acme"

    def convert_module(self, module) -> None:
        WITNESSED.append("precision")


class AcmeLogger(Logger):
    name = "acme"

    def __init__(self, file: str = "acme.jsonl") -> None:
        self.path = Path(file)

    def log_metrics(self, metrics, step) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": step, **metrics}) + "\n")


class AcmeCallback(Callback):
    def on_fit_start(self, trainer, module) -> None:
        WITNESSED.append("callback")
