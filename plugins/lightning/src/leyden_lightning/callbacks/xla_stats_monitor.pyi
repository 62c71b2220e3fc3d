"""Lightning's ``callbacks.xla_stats_monitor``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.device_stats import DeviceStatsMonitor as _DeviceStatsMonitor

XLAStatsMonitor = _DeviceStatsMonitor
