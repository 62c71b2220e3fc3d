"""The CPU as an accelerator, with figures about this process."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import torch
from leyden import Accelerator


class CPUAccelerator(Accelerator):
    """The CPU: always available, and the last choice of ``accelerator="auto"``."""

    name = "cpu"

    def stats(self, device: torch.device) -> dict[str, float]:
        """Memory and load of this process and its machine, as far as the operating system tells.

        Returns:
            ``cpu_user_seconds`` and ``cpu_system_seconds`` of this process, everywhere; ``memory_rss_bytes`` and
            ``memory_peak_rss_bytes`` of this process, ``memory_total_bytes`` and ``memory_available_bytes`` of the machine
            and its ``load_average_1min`` (runnable processes) where they can be read.
        """
        times = os.times()
        found = {"cpu_user_seconds": times.user, "cpu_system_seconds": times.system}
        found.update(_process_memory())
        found.update(_machine_memory())
        if hasattr(os, "getloadavg"):
            with contextlib.suppress(OSError):
                found["load_average_1min"] = os.getloadavg()[0]
        return found


def _process_memory() -> dict[str, float]:
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):  # only Linux has /proc
        resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
        found["memory_rss_bytes"] = float(resident_pages * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(ImportError):  # Windows has no resource
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_bytes = float(peak if sys.platform == "darwin" else peak * 1024)
        # Linux counts the peak of each thread's share later than the share itself.
        found["memory_peak_rss_bytes"] = max(peak_bytes, found.get("memory_rss_bytes", 0.0))
    return found


def _machine_memory() -> dict[str, float]:
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in ("MemTotal", "MemAvailable"):
                name = "memory_total_bytes" if key == "MemTotal" else "memory_available_bytes"
                found[name] = float(int(value.split()[0]) * 1024)  # the file counts in KiB
    return found
