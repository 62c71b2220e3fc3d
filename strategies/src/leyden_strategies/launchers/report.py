"""What is said of a run that failed: the first failure last, with its rank, its place and its own traceback.

Only the standard library is used, for the process that watches must be small.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from leyden_strategies.launchers.board import read_json
except ImportError:  # run by path, without the package and what it imports
    from board import read_json  # type: ignore[import-not-found,no-redef]

if TYPE_CHECKING:
    from leyden_strategies.launchers.watch import Watch

GONE = 1000
"""What stands for the exit code of a process that is gone and not ours, where only its parent knows more."""

FORWARDED = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
"""The signals that whoever watches passes on to the ranks."""


@dataclass
class Failure:
    """What is known of a rank that failed."""

    rank: int
    pid: int
    headline: str
    """One line: who, how, where."""
    traceback: str = ""
    time: float = 0.0
    follows: bool = False
    """Whether it looks like the consequence of another rank's end: a connection that closed."""
    code: int = 1
    """The exit code to end with."""
    report: dict[str, Any] = field(default_factory=dict)
    left: bool = False
    """Whether it left without an error, where the others may still wait for it."""
    together: bool = False
    """Whether it left where all had agreed to."""


def was_signalled(failure: Failure) -> bool:
    """Whether a signal ended the rank that it was sent to, which is no error of anybody's."""
    return failure.code - 128 in FORWARDED and not failure.traceback


def say_last(failure: Failure, watch: Watch) -> None:
    """Prints what ended the run: other ranks in a line each, the stacks of a stall, and the first failure last."""
    lines: list[str] = []
    if watch.stacks:
        lines.append(f"leyden: no rank moved for {watch.limit:g} s; the stacks of all ranks:")
        for rank, stack in sorted(watch.stacks.items()):
            lines += [f"---- rank {rank} (pid {watch.pids[rank]}), {watch.position(rank).shown()}", stack.rstrip()]
    lines += [
        f"leyden: rank {rank} (pid {pid}) was stopped because of rank {failure.rank}"
        for rank, pid in sorted(watch.pids.items())
        if rank != failure.rank and rank in watch.stopped
    ]
    checkpoint = newest_checkpoint(watch.directory)
    if checkpoint is not None:
        lines.append(f"leyden: the newest checkpoint is {checkpoint}")
    lines.append(f"leyden: {failure.headline}{':' if failure.traceback and not failure.headline.endswith(':') else ''}")
    if failure.traceback and failure.rank not in watch.stacks:
        lines.append(failure.traceback.rstrip())
    elif failure.traceback:
        lines.append(last_frames(failure.traceback))
    print("\n".join(lines), file=sys.stderr, flush=True)


def newest_checkpoint(directory: Path) -> str | None:
    """The newest whole checkpoint of the run, as the ranks of this node know it."""
    found = [told for path in directory.glob("rank-*.checkpoint") if (told := read_json(path)) is not None]
    newest = max(found, key=lambda told: told["time"], default=None)
    return None if newest is None else str(newest["path"])


def last_frames(stack: str) -> str:
    """The stack of the thread that runs Python's main code, most recent call first, as faulthandler writes it."""
    blocks = [block for block in stack.split("\n\n") if block.strip()]
    main = next((block for block in blocks if "<module>" in block), blocks[-1] if blocks else "")
    return "\n".join(main.strip().splitlines()[:12])


def how_it_ended(code: int) -> str:
    """What an exit code says, negative for a signal."""
    if code == GONE:
        return "ended without an exception (killed by SIGKILL, out of memory? or by os._exit)"
    if code >= 0:
        return f"left with exit code {code}, without an exception,"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    guess = {"SIGKILL": " (out of memory?)", "SIGSEGV": " (a crash in native code)", "SIGBUS": " (out of shared memory?)"}
    return f"was killed by {name}{guess.get(name, '')}"
