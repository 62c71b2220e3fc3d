"""Our own plug-ins, and the plain case of each kind, keep their contracts."""

from __future__ import annotations

import pytest
import torch
from leyden import Accelerator, CheckpointIO, ClusterEnvironment, Logger, Precision, Profiler, Strategy
from leyden.testing import (
    AcceleratorContract,
    CheckpointIOContract,
    EnvironmentContract,
    LoggerContract,
    PrecisionContract,
    ProfilerContract,
    StrategyContract,
)
from leyden.testing.contracts.runs import tiny
from leyden_accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator
from leyden_precision import BF16MixedPrecision, BF16Precision, FP16MixedPrecision, FP16Precision, FP64Precision, FullPrecision
from leyden_strategies import DPStrategy, SingleDeviceStrategy


class TestPlainAccelerator(AcceleratorContract):
    def accelerator(self):
        return Accelerator()


class TestCPU(AcceleratorContract):
    def accelerator(self):
        return CPUAccelerator()


class TestCUDA(AcceleratorContract):
    def accelerator(self):
        return CUDAAccelerator()


class TestMPS(AcceleratorContract):
    def accelerator(self):
        return MPSAccelerator()


class TestPlainStrategy(StrategyContract):
    def strategy(self):
        return Strategy()


class TestSingleDevice(StrategyContract):
    def strategy(self):
        return SingleDeviceStrategy()


class TestDPOnOneDevice(StrategyContract):
    def strategy(self):
        return DPStrategy()


class TestDP(StrategyContract):
    tolerance = 1e-6

    def strategy(self):
        return DPStrategy()

    def _trainer(self, root, **options):
        return super()._trainer(root, devices=2, **options)

    def test_each_batch_runs_the_users_step_once(self, tmp_path):
        """On each replica, that is."""
        module, seen = tiny(), []
        original = module.training_step
        module.training_step = lambda batch, batch_idx: seen.append(batch_idx) or original(batch, batch_idx)
        self._trainer(tmp_path).fit(module)
        assert seen == [0, 0, 1, 1, 2, 2, 3, 3]


class TestPlainPrecision(PrecisionContract):
    tolerance = 0.0

    def precision(self):
        return Precision()


class TestFullPrecision(PrecisionContract):
    tolerance = 0.0

    def precision(self):
        return FullPrecision()


class TestFP64(PrecisionContract):
    tolerance = 1e-6

    def precision(self):
        return FP64Precision()


class TestFP16(PrecisionContract):
    def precision(self):
        return FP16Precision()


class TestBF16(PrecisionContract):
    def precision(self):
        return BF16Precision()


class TestFP16Mixed(PrecisionContract):
    def precision(self):
        return FP16MixedPrecision()


class TestBF16Mixed(PrecisionContract):
    def precision(self):
        return BF16MixedPrecision()


@pytest.mark.skipif(torch.cuda.device_count() == 0, reason="there is no CUDA device here")
class TestFP16MixedOnCUDA(PrecisionContract):
    def precision(self):
        return FP16MixedPrecision()

    def accelerator(self):
        return CUDAAccelerator()


@pytest.mark.skipif(torch.cuda.device_count() == 0, reason="there is no CUDA device here")
class TestSingleDeviceOnCUDA(StrategyContract):
    def strategy(self):
        return SingleDeviceStrategy()

    def accelerator(self):
        return CUDAAccelerator()


class TestPlainLogger(LoggerContract):
    def logger(self, root):
        return Logger()


class TestPlainProfiler(ProfilerContract):
    def profiler(self):
        return Profiler()


class TestPlainEnvironment(EnvironmentContract):
    def environment(self):
        return ClusterEnvironment()


class TestPlainCheckpointIO(CheckpointIOContract):
    def checkpoint_io(self):
        return CheckpointIO()
