"""What a rank tells those who watch it: where it is, how it failed, which stack it has; files of one directory.

Only the standard library is used, for the process that watches must be small.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import struct
import time
from pathlib import Path
from typing import Any, NamedTuple

RUN_DIRECTORY = "LEYDEN_RUN_DIR"
"""The variable that says where the files are."""

WATCHER = "LEYDEN_WATCHER"
"""The variable that says which process watches, without which a rank ends: it may be gone before the rank can look for it."""

PHASES = ("start", "setup", "training", "validation", "test", "prediction", "saving", "teardown", "end")

END = len(PHASES) - 1
"""The phase of a rank whose run is over, in whatever way."""

STACK_SIGNAL: int = getattr(signal, "SIGRTMIN", signal.SIGUSR2 - 7) + 7
"""Makes a rank write the stacks of all its threads to its file; no scheduler sends it."""

_FORMAT = struct.Struct("<qqqqqq")  # count of writes, run, phase, step, epoch, batch
_SIZE = 16 * 1024
"""Bytes of a board; behind the position there is room for a failure that a full disk has no file for."""


class Position(NamedTuple):
    """Where a rank is."""

    writes: int
    """Grows with each change, so that a rank that moves can be told from one that does not."""
    run: int
    """Which of the script's runs it is in, or was in last: 0 before the first."""
    phase: int
    step: int
    epoch: int
    batch: int

    @property
    def in_run(self) -> bool:
        """Whether a run has begun and is not over."""
        return self.phase not in (0, END)

    def shown(self) -> str:
        """The position for a message."""
        phase = PHASES[self.phase]
        if phase == "training":
            return f"at step {self.step}, in training batch {self.batch} of epoch {self.epoch}"
        if phase in ("validation", "test", "prediction"):
            return f"at step {self.step}, in {phase} batch {self.batch}"
        if phase in ("start", "setup"):
            return "while it was set up"
        return f"at step {self.step}, in {phase}" if phase in ("saving", "teardown") else f"at step {self.step}, after the run"


class Board:
    """The position of one rank, in memory that both sides map: writing it is one copy of 48 bytes."""

    def __init__(self, path: Path) -> None:
        # Both sides may come first: each opens or makes the file and gives it its size, which is zeros or changes nothing.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, _SIZE)  # to find a full disk here, not by a fatal signal at a write
            else:
                os.ftruncate(descriptor, _SIZE)
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._writes = self._run = 0

    def begin(self) -> None:
        """Counts a run; what is written from here on is of that one."""
        self._run += 1
        self._memory[_FORMAT.size] = 0

    def write(self, phase: int, step: int, epoch: int, batch: int) -> None:
        """Says where this rank is."""
        self._writes += 1
        _FORMAT.pack_into(self._memory, 0, self._writes, self._run, phase, step, epoch, batch)

    def read(self) -> Position:
        """Where the rank is."""
        return Position(*_FORMAT.unpack_from(self._memory, 0))

    def report(self, failure: dict[str, Any]) -> None:
        """Keeps a failure that could not be written to a file; of a long traceback the last calls."""
        room = _SIZE - _FORMAT.size - 1
        text = failure["traceback"]
        while len(data := json.dumps({**failure, "traceback": text}).encode()) > room and text:
            text = text[len(text) // 8 + 1 :]
        if len(data) <= room:
            self._memory[_FORMAT.size :] = data.ljust(room + 1, b"\0")

    def reported(self) -> dict[str, Any] | None:
        """The failure that was kept here, or None."""
        if not self._memory[_FORMAT.size]:
            return None
        try:
            found: dict[str, Any] = json.loads(self._memory[_FORMAT.size :].rstrip(b"\0"))
        except ValueError:  # also where it is being written
            return None
        return found

    def close(self) -> None:
        """Lets go of the memory."""
        self._memory.close()


def file_of(directory: Path, rank: int, kind: str) -> Path:
    """The file of a rank: ``"board"``, ``"failure"``, ``"stack"``, ``"process"``, ``"left"``, ``"checkpoint"``."""
    return directory / f"rank-{rank}.{kind}"


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Writes a file that a reader sees whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data), encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What :func:`write_json` wrote, or None."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def remove(directory: Path) -> None:
    """Removes the files of a run; a rank that is just ending may write one more."""
    for _ in range(10):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.05)


def wait_for(path: Path, seconds: float) -> str:
    """The text of a file that another process writes, as soon as it is there.

    Raises:
        TimeoutError: it did not come in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            text = ""
        if text:
            return text
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for rank 0, which begins no run; every rank has to call fit and its like")
        time.sleep(0.01)
