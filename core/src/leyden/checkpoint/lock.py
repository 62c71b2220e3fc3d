"""Keeps a directory for one run: a second run is told who has it, and a dead run holds nothing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from leyden.checkpoint.processes import is_running, started

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # the file alone must do there

NAME = ".leyden-lock"


class DirectoryTaken(RuntimeError):
    """Another run saves to the directory."""


class DirectoryLock:
    """Held from construction to :meth:`release`, or until the process is gone, however it ended.

    The system's own lock on the file decides, which a dead process does not hold and which a forked one does not inherit; the
    file says for people who has it. Where a file system has no locks, the file decides: one whose process is dead is taken over.

    Args:
        directory: must exist.

    Raises:
        DirectoryTaken: another run has it; the message says which.
        OSError: the file cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory.resolve() / NAME
        self._pid = os.getpid()
        if (self._pid, self.path) in _HELD:
            raise DirectoryTaken(_message(self.path, "another run of this process"))
        self._descriptor = self._take()
        _HELD.add((self._pid, self.path))

    def _take(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                owner = _read(descriptor)
                if not _lock(descriptor, owner):
                    raise DirectoryTaken(_message(self.path, _described(owner)))
                # Between opening and locking, whoever had it may have deleted the file: then this is nobody's any more.
                if self._is_current(descriptor):
                    mine = {
                        "host": socket.gethostname(), "pid": os.getpid(), "started": started(os.getpid()),
                        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                    }  # fmt: skip
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, json.dumps(mine).encode(), 0)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        try:
            there = os.stat(self.path)  # noqa: PTH116  # beside os.fstat
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    def release(self) -> None:
        """Lets go; a second call, or one in a forked process, does nothing."""
        if self._descriptor < 0 or os.getpid() != self._pid:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1
        _HELD.discard((self._pid, self.path))


_HELD: set[tuple[int, Path]] = set()
"""By process: the system's lock does not keep a process from itself, and a forked one inherits this set but no lock."""


def _lock(descriptor: int, owner: dict[str, Any]) -> bool:
    if fcntl is not None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            pass  # a file system without locks
        else:
            return True
    if not owner:
        return True
    return owner.get("host") == socket.gethostname() and not is_running(int(owner.get("pid", 0)), int(owner.get("started", 0)))


def _read(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _described(owner: dict[str, Any]) -> str:
    if not owner:
        return "another run"
    return f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"


def _message(path: Path, who: str) -> str:
    return (
        f"{str(path.parent)!r} is where {who} saves its checkpoints; two runs in one directory would delete each other's: "
        f"pass another dirpath, or end that run (if it is gone, delete {str(path)!r})"
    )
