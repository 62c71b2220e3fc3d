"""Our callbacks keep the contract."""

from __future__ import annotations

import leyden_callbacks as ours
import pytest
from leyden import Logger, every
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


# Not Timer: a run that goes on takes time, even with nothing left to train.
WATCHING = {
    "ema": lambda: ours.EMA(0.9, keep=False),
    "throughput": lambda: ours.ThroughputMonitor(flops_per_batch="measure"),
    "data_stall": lambda: ours.DataStall(warn_above=1),
    "slow_rank": lambda: ours.SlowRank(2, warn_above=1000),
    "garbage_collection": lambda: ours.GarbageCollection(2),
    "memory_snapshot": lambda: ours.MemorySnapshot(at_step=2),
    "spike_detection": lambda: ours.SpikeDetection(rtol=100),
    "on_exception_checkpoint": lambda: ours.OnExceptionCheckpoint("failed"),
    "lambda": lambda: ours.LambdaCallback(on_train_batch_end=lambda: None),
    "oom_microbatch": ours.OOMMicrobatch,
    "parameter_monitor": lambda: ours.ParameterMonitor(weights=True, updates=True, activations=True, depth=-1),
    "activation_checkpointing": lambda: ours.ActivationCheckpointing(["layer"]),
    "csv_predictions": lambda: ours.CSVPredictions("predictions.csv"),
    "limited": lambda: every("2 steps", ours.ThroughputMonitor()),
}
CHANGING = {
    "ema kept": lambda: ours.EMA(0.9),
    "stochastic_weight_averaging": lambda: ours.StochasticWeightAveraging(0.05, 0),
    "gradient_accumulation_scheduler": lambda: ours.GradientAccumulationScheduler({0: 2}),
    "backbone_finetuning": lambda: ours.BackboneFinetuning(0, backbone="layer", train_bn=False),
    "pruning": ours.ModelPruning,
    "param_scheduler": lambda: ours.ParamScheduler(lr="one_cycle", warmup="1 steps"),
    "learning_rate_finder": lambda: ours.LearningRateFinder(num_training_steps=20),
}


class TestOthers(CallbackContract):
    @pytest.fixture(params=[*WATCHING, *CHANGING], autouse=True)
    def which(self, request):
        self.make = {**WATCHING, **CHANGING}[request.param]
        self.only_watches = request.param in WATCHING

    def callback(self):
        return self.make()


class TestDeviceStatsMonitor(CallbackContract):
    def callback(self):
        return ours.DeviceStatsMonitor()

    def options(self):
        return {"logger": Logger()}
