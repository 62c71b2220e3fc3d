"""Watches the ranks of one node: when one fails or stalls, ends all of them and says what came first.

Only the standard library is used, for the process that watches must be small.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    from leyden_strategies.launchers.board import END, STACK_SIGNAL, Board, Position, file_of, read_json, write_json
except ImportError:  # run by path, without the package and what it imports
    from board import END, STACK_SIGNAL, Board, Position, file_of, read_json, write_json  # type: ignore[import-not-found,no-redef]

POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.4
"""How long a first failure may be followed by what caused it: a rank that lost another may be heard before that one."""
LEAVE_SECONDS = 2.5
"""How long ranks are given to leave by themselves once one has failed."""

GONE = 1000
"""What stands for the exit code of a process that is gone and not ours, where only its parent knows more."""

FORWARDED = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


@contextlib.contextmanager
def listening() -> Iterator[list[int]]:
    """Inside, signals that would end this process are kept, for a watch to pass on to the ranks; no handler is run for them."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # Python has handlers in the main thread only
        return
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in FORWARDED}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def was_signalled(failure: Failure) -> bool:
    """Whether a signal ended the rank that it was sent to, which is no error of anybody's."""
    return failure.code - 128 in FORWARDED and not failure.traceback


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


class Watch:
    """Watches processes until all have ended."""

    def __init__(
        self,
        directory: Path,
        pids: Mapping[int, int],
        ended: Callable[[int], int | None],
        stall_seconds: float,
        received: list[int] | None = None,
    ) -> None:
        """Takes the ranks.

        Args:
            directory: where the ranks' files are.
            pids: the process of each rank.
            ended: of a rank: its exit code, negative for a signal; None while it runs.
            stall_seconds: how long no rank of the node may move.
            received: the signals to this process that are to be passed on to the ranks; see :func:`listening`.
        """
        self.directory = directory
        self.pids = dict(pids)
        self.ended = ended
        self.stall_seconds = stall_seconds
        self.received: list[int] = [] if received is None else received
        self._passed_on = 0
        self.codes: dict[int, int] = {}
        self.boards: dict[int, Board] = {}
        self.moved = time.monotonic()
        self.positions: dict[int, Position] = {}
        self.stacks: dict[int, str] = {}

    def run(self) -> Failure | None:
        """Returns when no rank is left: the first failure, or None."""
        while True:
            self._forward()
            self._collect()
            found = self._failures()
            if found:
                return self._end(found)
            if len(self.codes) == len(self.pids):
                return None
            stalled = self._stalled()
            if stalled is not None:
                return self._end([stalled])
            time.sleep(POLL_SECONDS)

    # ---- signals ----

    def _forward(self) -> None:
        while self._passed_on < len(self.received):
            number = self.received[self._passed_on]
            self._passed_on += 1
            if number == signal.SIGINT and _at_terminal():
                continue  # a terminal sends it to every process of the group
            for rank, pid in self.pids.items():
                if rank not in self.codes:
                    _send(pid, number)

    # ---- failures ----

    def _collect(self) -> None:
        for rank in self.pids:
            if rank not in self.codes:
                code = self.ended(rank)
                if code is not None:
                    self.codes[rank] = code

    def _left(self, rank: int, code: int | None) -> Failure | None:
        """What is known of a rank that ended without an error."""
        told = read_json(file_of(self.directory, rank, "left")) if code is not None else None
        if code is None or told is None or code < 0 or code >= GONE:
            return None
        headline = f"rank {rank} (pid {self.pids[rank]}) left the others by {told['how']} {told['where']}"
        return Failure(rank, self.pids[rank], headline, time=told["time"], left=True, together=told["together"], code=code)

    def _failures(self, *, alone: bool = False) -> list[Failure]:
        found = []
        for rank, pid in self.pids.items():
            report = read_json(file_of(self.directory, rank, "failure"))
            code = self.codes.get(rank)
            left = self._left(rank, code)
            if left is not None:
                if alone or not left.together:
                    found.append(left)
                continue
            if code == 0:
                continue  # whoever caught its exception has gone on
            if report is not None:
                where = f"rank {rank} (pid {pid}) failed {report['where']}"
                exit_code = code if code is not None and 0 < code < GONE else 1
                found.append(Failure(rank, pid, where, report["traceback"], report["time"], report["follows"], exit_code, report))
            elif code is not None and code - 128 not in FORWARDED:
                how = _how_it_ended(code)
                where = f"rank {rank} (pid {pid}) {how} {self.position(rank).shown()}"
                found.append(Failure(rank, pid, where, code=code if code > 0 else 128 - code, time=time.time()))
        return found

    def position(self, rank: int) -> Position:
        """Where a rank is, or was last."""
        if rank not in self.boards:
            path = file_of(self.directory, rank, "board")
            if not path.exists():
                return Position(0, 0, 0, 0, 0)
            self.boards[rank] = Board(path)
        return self.boards[rank].read()

    def _stalled(self) -> Failure | None:
        now = time.monotonic()
        positions = {rank: self.position(rank) for rank in self.pids if rank not in self.codes}
        phases = {position.phase for position in positions.values()}
        # Code before the first run and after the last is not ours to time.
        if positions != self.positions or 0 in phases or phases <= {END}:
            self.positions, self.moved = positions, now
        if now - self.moved < self.stall_seconds:
            return None
        self.dump_stacks()
        guilty = self._guilty()
        pid, where = self.pids[guilty], self.position(guilty).shown()
        headline = f"rank {guilty} (pid {pid}) did not move for {self.stall_seconds:g} s {where}; its stack is:"
        return Failure(guilty, pid, headline, self.stacks.get(guilty, ""), time.time())

    def dump_stacks(self) -> None:
        """Has every rank write its stacks, and keeps them."""
        running = [rank for rank in self.pids if rank not in self.codes]
        for rank in running:
            if file_of(self.directory, rank, "stack").exists():  # the rank has a handler for it
                _send(self.pids[rank], STACK_SIGNAL)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            for rank in running:
                with contextlib.suppress(OSError):
                    self.stacks[rank] = file_of(self.directory, rank, "stack").read_text(encoding="utf-8", errors="replace")
            if all(self.stacks.get(rank) for rank in running):
                time.sleep(0.1)  # the last of them may still be writing
                for rank in running:
                    with contextlib.suppress(OSError):
                        self.stacks[rank] = file_of(self.directory, rank, "stack").read_text(encoding="utf-8", errors="replace")
                return
            time.sleep(POLL_SECONDS)

    def _guilty(self) -> int:
        """The rank that the others wait for: one that is not inside of a collective, else the one that is behind."""
        running = [rank for rank in self.pids if rank not in self.codes]
        running = [rank for rank in running if self.position(rank).phase != END] or running
        busy = [rank for rank in running if self.stacks.get(rank) and not _waits(self.stacks[rank])]
        return min(busy or running, key=lambda rank: (self.position(rank)[2:], rank))

    # ---- the end ----

    def _end(self, found: list[Failure]) -> Failure | None:
        settle, deadline = time.monotonic() + SETTLE_SECONDS, time.monotonic() + LEAVE_SECONDS
        while time.monotonic() < settle or (len(self.codes) < len(self.pids) and time.monotonic() < deadline):
            self._forward()
            self._collect()
            known = {failure.rank for failure in found}
            found += [failure for failure in self._failures() if failure.rank not in known]
            if not self.stacks and len(self.codes) < len(self.pids) and self._all_failed_and_live():
                return self._go_on()
            if self.stacks:
                break  # they will not leave by themselves
            time.sleep(POLL_SECONDS)
        alive = [rank for rank in self.pids if rank not in self.codes]
        if not alive and self._left_alike(found):
            return None
        if all(failure.follows for failure in found):
            # A rank that left without waiting for the others, though they had agreed: a second signal came.
            found += [failure for failure in self._failures(alone=True) if failure.left]
        first = min(found, key=lambda failure: (failure.follows, failure.time))
        _tell_torchrun(self.directory, first)
        for rank in sorted(alive, key=lambda rank: rank != first.rank):
            _kill_tree(self.pids[rank])
        deadline = time.monotonic() + LEAVE_SECONDS
        while len(self.codes) < len(self.pids) and time.monotonic() < deadline:
            self._collect()
            time.sleep(0.01)
        # What a rank that failed later says of its exit is known by now.
        code = self.codes.get(first.rank)
        if code is not None and code > 0:
            first.code = code
        return first

    def _left_alike(self, found: list[Failure]) -> bool:
        """Whether all ranks left by ``sys.exit``, which the script means then."""
        if not all(failure.left for failure in found):
            return False
        codes = set(self.codes.values())
        return codes == {0} or (len(codes) == 1 and len(found) == len(self.pids) and found[0].code - 128 not in FORWARDED)

    def _all_failed_and_live(self) -> bool:
        """Whether every rank has told of an exception, none has left, and so the script may have caught it everywhere."""
        reports = [read_json(file_of(self.directory, rank, "failure")) for rank in self.pids]
        return not self.codes and all(report is not None and not report["follows"] for report in reports)

    def _go_on(self) -> Failure | None:
        # The same exception on all ranks, before any left: they end, or go on, each by itself.
        while len(self.codes) < len(self.pids):
            self._forward()
            self._collect()
            time.sleep(POLL_SECONDS)
            if not any(file_of(self.directory, rank, "failure").exists() for rank in self.pids):
                return self.run()  # another run began, and forgot the failure
            if any(code != 0 for code in self.codes.values()):
                return self._end(self._failures())
        return None


def say_last(failure: Failure, watch: Watch) -> None:
    """Prints what ended the run: other ranks in a line each, the stacks of a stall, and the first failure last."""
    lines: list[str] = []
    if watch.stacks:
        lines.append(f"leyden: no rank moved for {watch.stall_seconds:g} s; the stacks of all ranks:")
        for rank, stack in sorted(watch.stacks.items()):
            lines += [f"---- rank {rank} (pid {watch.pids[rank]}), {watch.position(rank).shown()}", stack.rstrip()]
    lines += [
        f"leyden: rank {rank} (pid {pid}) was stopped because of rank {failure.rank}"
        for rank, pid in sorted(watch.pids.items())
        if rank != failure.rank
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


def _how_it_ended(code: int) -> str:
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


def _waits(stack: str) -> bool:
    """Whether the thread that runs Python's main code is inside of a collective, or of backward, which has some."""
    frames = last_frames(stack).splitlines()[1:]
    own = itertools.takewhile(lambda line: "/torch/" in line, frames)  # a step that hangs is called by DDP too
    return any("torch/distributed/" in line or "torch/autograd/" in line or "parallel/distributed" in line for line in own)


def _at_terminal() -> bool:
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    """The processes below one, where the system says it; a rank's are the workers of its loaders."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = entry.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _kill_tree(pid: int) -> None:
    for each in (pid, *descendants(pid)):
        if each != os.getpid():  # an observer was started by a rank
            _send(each, signal.SIGKILL)


def _tell_torchrun(directory: Path, failure: Failure) -> None:
    """Leaves the failure where torchrun looks for it, if torchrun started the rank and it could not do so itself."""
    process = read_json(file_of(directory, failure.rank, "process")) or {}
    path: str | None = process.get("error_file")
    if path and not Path(path).exists():
        message = f"{failure.headline}\n{failure.traceback}"
        with contextlib.suppress(OSError):
            write_json(Path(path), {"message": {"message": message, "extraInfo": {"timestamp": str(int(failure.time))}}})
