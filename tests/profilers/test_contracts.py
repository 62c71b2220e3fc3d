"""Our profilers keep the contract."""

from __future__ import annotations

from leyden.testing import ProfilerContract
from leyden_profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler


class TestSimple(ProfilerContract):
    def profiler(self):
        return SimpleProfiler()


class TestAdvanced(ProfilerContract):
    def profiler(self):
        return AdvancedProfiler()


class TestAdvancedWholeRun(ProfilerContract):
    def profiler(self):
        return AdvancedProfiler(whole_run=True)

    def test_summary_is_text_before_and_after_a_run(self, tmp_path):
        pass  # one table for the whole run names functions and no action


class TestPyTorch(ProfilerContract):
    def profiler(self):
        return PyTorchProfiler(wait=0)
