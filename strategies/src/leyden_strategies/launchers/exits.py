"""How processes ended that are not this one's children, read before their parent asks for it."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterable
from pathlib import Path


class Exits:
    """Waits for processes in a thread, and reads how each ended in the moment that it does.

    Linux shows how a process ended until its parent has asked; torchrun asks ten times a second. Elsewhere nothing is known.

    Args:
        pids: of processes of the same user.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._codes: dict[int, int] = {}
        self._descriptors: dict[int, int] = {}
        if not hasattr(os, "pidfd_open"):
            return
        for pid in pids:
            try:
                self._descriptors[os.pidfd_open(pid)] = pid
            except OSError:  # it is gone, or the system is older than these descriptors
                continue
        threading.Thread(target=self._wait, daemon=True).start()

    def code(self, pid: int) -> int | None:
        """An exit code, or a negative signal, of a process that ended; None if that is not known."""
        code = _exit_code(pid)  # the thread may come to it later
        return self._codes.get(pid) if code is None else code

    def _wait(self) -> None:
        poll = select.poll()
        for descriptor in self._descriptors:
            poll.register(descriptor, select.POLLIN)
        for _ in range(len(self._descriptors)):
            for descriptor, _ in poll.poll():
                poll.unregister(descriptor)
                pid = self._descriptors[descriptor]
                code = _exit_code(pid)
                if code is not None:
                    self._codes[pid] = code


def fields_of(pid: int) -> list[str]:
    """What Linux says of a process in proc_pid_stat(5), from the third field on, its state.

    Raises:
        OSError: there is no such process, or no such file system.
    """
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _exit_code(pid: int) -> int | None:
    """How a process ended whose parent does not know it yet; None if it does. The 52nd field."""
    try:
        fields = fields_of(pid)
        return os.waitstatus_to_exitcode(int(fields[49])) if fields[0] in "ZX" else None
    except (OSError, ValueError, IndexError):
        return None
