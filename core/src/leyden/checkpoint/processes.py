"""Whether the process that wrote something still runs."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path


def started(pid: int) -> int:
    """When a process of this machine started, in ticks since the machine did; 0 where the system does not say.

    Numbers of processes are used again: only together with this does one name a process.
    """
    return _own_start(pid) if pid == os.getpid() else _read_start(pid)


@cache
def _own_start(pid: int) -> int:
    return _read_start(pid)


def _read_start(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


def is_running(pid: int, start: int) -> bool:
    """Whether process ``pid`` of this machine runs and is the one that started at ``start``."""
    if sys.platform == "win32":
        return True  # there, asking with signal 0 would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    now = _read_start(pid)
    return not start or not now or now == start
