"""Processes that are the nodes of one run: the port at which they meet, and an end for all of them."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, NamedTuple


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of this machine that the system chooses for nobody else meanwhile; who asks for it by its number gets it.

    A port that is only free is not enough: by the time two nodes have imported torch it may be another run's store, which the
    second node meets and with which it ends, and then the first one waits for it.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for who asks for it; it is not listened at here
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    """Its exit code; negative for a signal, also for that of whoever did not want to wait any longer."""
    out: str
    err: str

    def __repr__(self) -> str:
        return f"\nexit code {self.code}\n{self.out}\n{self.err}\n"


def run_together(commands: Sequence[Sequence[object]], seconds: float = 200, **options: Any) -> list[Ended]:
    """Runs processes side by side until they and whatever else writes where they do have ended, or ends them.

    Args:
        commands: the words of each.
        seconds: how long the last of them may take.
        options: others of :class:`subprocess.Popen`.
    """
    deadline = time.monotonic() + seconds
    processes: list[subprocess.Popen[str]] = []
    readers: list[tuple[_Reader, _Reader]] = []
    try:
        for command in commands:
            words = [str(word) for word in command]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
            )
            processes.append(process)
            readers.append((_Reader(process.stdout), _Reader(process.stderr)))
        for thread in (thread for pair in readers for thread in pair):
            thread.join(max(deadline - time.monotonic(), 0))
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0))
    finally:
        for process in processes:
            _end(process)
    for thread in (thread for pair in readers for thread in pair):
        thread.join(10)  # an orphan may have the other end of what it reads
    return [Ended(process.returncode, out.text, err.text) for process, (out, err) in zip(processes, readers, strict=True)]


class _Reader(threading.Thread):
    """Reads a pipe, so that nobody waits for it to be emptied."""

    def __init__(self, pipe: IO[str] | None) -> None:
        super().__init__(daemon=True)
        assert pipe is not None
        self.pipe = pipe
        self.text = ""
        self.start()

    def run(self) -> None:
        with self.pipe:
            for line in self.pipe:
                self.text += line


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()  # torchrun and our watcher end their ranks with them
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()  # it is in native code, waiting for another node, and has no ranks
        process.wait()
