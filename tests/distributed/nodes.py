"""Processes that are the nodes of one run: the port at which they meet, and an end for all of them."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple


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
    """Runs processes side by side to their end, or ends them.

    Args:
        commands: the words of each.
        seconds: how long the last of them may take.
        options: others of :class:`subprocess.Popen`.
    """
    deadline = time.monotonic() + seconds
    with ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        files = [tuple(opened.enter_context((place / f"{name}-{index}").open("w+")) for name in ("out", "err"))
                 for index in range(len(commands))]  # fmt: skip
        processes = []
        try:
            for command, (out, err) in zip(commands, files, strict=True):
                words = [str(word) for word in command]
                processes.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True, **options))
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(deadline - time.monotonic(), 0))
        finally:
            for process in processes:
                _end(process)
        for file in (file for pair in files for file in pair):
            file.seek(0)
        return [Ended(process.returncode, out.read(), err.read()) for process, (out, err) in zip(processes, files, strict=True)]


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()  # torchrun and our watcher end their ranks with them
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()  # it is in native code, waiting for another node, and has no ranks
        process.wait()
