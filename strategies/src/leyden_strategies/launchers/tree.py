"""The processes that ranks have started, workers of loaders above all, and the end of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container, Iterator
from pathlib import Path

try:
    from leyden_strategies.launchers.exits import fields_of
except ImportError:  # run by path, without the package and what it imports
    from exits import fields_of  # type: ignore[import-not-found,no-redef]

MARK = "LEYDEN_RANK_OF"
"""The variable that a rank sets to the directory of its files, for the programs that it starts."""

_CLEANERS = (b"multiprocessing.resource_tracker", b"torch_shm_manager")
"""Processes that free what the others have left behind, and then end by themselves."""


def descendants(pid: int) -> list[int]:
    """The processes below one, where the system says it; a rank's are the workers of its loaders."""
    below: dict[int, list[int]] = {}
    for other in _all():
        with contextlib.suppress(OSError, ValueError, IndexError):
            below.setdefault(int(fields_of(other)[1]), []).append(other)
    found, todo = [], [pid]
    while todo:
        children = below.get(todo.pop(), [])
        found += children
        todo += children
    return found


def orphans(directory: Path) -> list[int]:
    """The processes that ranks have started which are gone themselves: they have the mark, or a rank's file for its stacks."""
    mark, directory = os.fsencode(f"{MARK}={directory}"), directory.resolve()
    found = []
    for pid in _all():
        with contextlib.suppress(OSError):
            marked = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if marked or any(_is_stack(entry, directory) for entry in Path(f"/proc/{pid}/fd").iterdir()):
                found.append(pid)
    return found


def kill(pids: list[int], sessions: Container[int]) -> list[int]:
    """Kills processes, but none that cleans up for others, and none that was put into a session of its own, to outlive its rank.

    Args:
        pids: of the processes.
        sessions: those of the ranks. An observer, and what uploads for a logger, have others.

    Returns:
        Those that clean up, which will say what they found and end when the others have.
    """
    cleaners = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if any(name in Path(f"/proc/{pid}/cmdline").read_bytes() for name in _CLEANERS):
                cleaners.append(pid)
            elif os.getsid(pid) in sessions:
                os.kill(pid, signal.SIGKILL)
    return cleaners


def is_running(pid: int) -> bool:
    """Whether a process runs that need not be our child."""
    try:
        os.kill(pid, 0)
        return not Path(f"/proc/{pid}/stat").exists() or fields_of(pid)[0] not in "ZX"
    except OSError:
        return False


def _all() -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        yield int(entry.name)


def _is_stack(link: Path, directory: Path) -> bool:
    try:
        target = link.readlink()
    except OSError:  # it was closed in between
        return False
    return target.suffix == ".stack" and target.parent == directory
