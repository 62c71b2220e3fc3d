"""Lightning's ``callbacks.throughput_monitor``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.throughput import ThroughputMonitor as ThroughputMonitor
