"""Our callbacks keep the contract."""

from __future__ import annotations

from leyden import Logger
from leyden.testing import CallbackContract
from leyden_callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, ModelSummary, TQDMProgressBar


class TestModelCheckpoint(CallbackContract):
    def callback(self):
        return ModelCheckpoint(monitor="val_loss")


class TestEarlyStopping(CallbackContract):
    def callback(self):
        return EarlyStopping("val_loss")


class TestLearningRateMonitor(CallbackContract):
    def callback(self):
        return LearningRateMonitor()

    def options(self):
        return {"logger": Logger()}


class TestModelSummary(CallbackContract):
    def callback(self):
        return ModelSummary()


class TestTQDMProgressBar(CallbackContract):
    def callback(self):
        return TQDMProgressBar()
