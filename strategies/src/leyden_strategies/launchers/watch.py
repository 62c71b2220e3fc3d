"""Watches the ranks of one node: when one fails or stalls, ends all of them and finds what came first.

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
from pathlib import Path
from typing import Any

try:
    from leyden_strategies.launchers.board import STACK_SIGNAL, Board, Position, file_of, read_json, write_json
    from leyden_strategies.launchers.report import FORWARDED, GONE, Failure, how_it_ended, last_frames
    from leyden_strategies.launchers.tree import descendants, is_running, kill, orphans
except ImportError:  # run by path, without the package and what it imports
    from board import STACK_SIGNAL, Board, Position, file_of, read_json, write_json  # type: ignore[import-not-found,no-redef]
    from report import FORWARDED, GONE, Failure, how_it_ended, last_frames  # type: ignore[import-not-found,no-redef]
    from tree import descendants, is_running, kill, orphans  # type: ignore[import-not-found,no-redef]

POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.4
"""How long a first failure may be followed by what caused it: a rank that lost another may be heard before that one."""
LEAVE_SECONDS = 2.5
"""How long ranks are given to leave by themselves once one has failed."""
START_SECONDS = 60.0
"""How much longer than others a rank may take that has not begun its first run, which imports, and more, come before."""

_ALIKE = "every rank has to call fit, validate, test and predict alike, also where only rank 0 uses what they return"


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
        self.limit = stall_seconds
        """How long no rank has moved, where none has."""
        self.stacks: dict[int, str] = {}
        """What each rank was doing then."""
        self.stopped: set[int] = set()
        """The ranks that were ended, or failed, after the first failure."""

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
            report = self.report(rank)
            code, position = self.codes.get(rank), self.position(rank)
            left = self._left(rank, code)
            if left is not None:
                if alone or not left.together or self._missing_it(position.run + 1) is not None:
                    found.append(left)
            elif report is not None:
                if code != 0 or alone or self._missing_it(position.run) is not None:  # else whoever caught it has gone on
                    where = f"rank {rank} (pid {pid}) failed {report['where']}"
                    failure = Failure(rank, pid, where, report["traceback"], report["time"], report["follows"], report=report)
                    failure.code = code if code is not None and 0 < code < GONE else 1
                    found.append(failure)
            elif code == 0 and not position.in_run:
                waiting = self._missing_it(position.run + 1)
                if waiting is not None:
                    where = f"rank {rank} (pid {pid}) ended, and rank {waiting} is in a run in which it waits for it: {_ALIKE}"
                    found.append(Failure(rank, pid, where, time=time.time()))
            elif code is not None and code - 128 not in FORWARDED:
                where = f"rank {rank} (pid {pid}) {how_it_ended(code)} {position.shown()}"
                told = -code in FORWARDED  # by whoever started the ranks, which may have seen another one fail before
                exit_code = code if code > 0 else 128 - code if code else 1
                found.append(Failure(rank, pid, where, time=time.time(), follows=told, code=exit_code))
        return found

    def _missing_it(self, run: int) -> int | None:
        """A rank that is in this run of the script's, or a later one, and waits in vain for one that has ended."""
        positions = {rank: self.position(rank) for rank in self.pids if rank not in self.codes}
        return next((rank for rank, position in positions.items() if position.in_run and position.run >= run), None)

    def position(self, rank: int) -> Position:
        """Where a rank is, or was last."""
        board = self._board(rank)
        return Position(0, 0, 0, 0, 0, 0) if board is None else board.read()

    def report(self, rank: int) -> dict[str, Any] | None:
        """What a rank told of its failure."""
        told, board = read_json(file_of(self.directory, rank, "failure")), self._board(rank)
        return board.reported() if told is None and board is not None else told

    def _board(self, rank: int) -> Board | None:
        path = file_of(self.directory, rank, "board")
        if rank not in self.boards and path.exists():
            self.boards[rank] = Board(path)
        return self.boards.get(rank)

    def _stalled(self) -> Failure | None:
        now = time.monotonic()
        positions = {rank: self.position(rank) for rank in self.pids if rank not in self.codes}
        if positions != self.positions or not any(position.in_run for position in positions.values()):
            self.positions, self.moved = positions, now  # code before the first run and after the last is not ours to time
        starting = any(position.run == 0 for position in positions.values())
        self.limit = self.stall_seconds + START_SECONDS * starting
        if now - self.moved < self.limit:
            return None
        self.dump_stacks()
        guilty = self._guilty(positions)
        waiting = self._missing_it(positions[guilty].run + 1)
        what = f"did not move for {self.limit:g} s {positions[guilty].shown()}"
        if waiting is not None:
            what = f"is not in the run in which rank {waiting} has waited for it for {self.limit:g} s: {_ALIKE}"
        stack = self.stacks.get(guilty, "")
        headline = f"rank {guilty} (pid {self.pids[guilty]}) {what}{'; its stack is:' if stack else ''}"
        return Failure(guilty, self.pids[guilty], headline, stack, time.time())

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

    def _guilty(self, positions: Mapping[int, Position]) -> int:
        """The rank that the others wait for: one that is not in their run, or not inside of a collective, or else behind."""
        newest = max(position.run for position in positions.values() if position.in_run)
        late = [rank for rank, position in positions.items() if position.run < newest]
        running = late or [rank for rank, position in positions.items() if position.in_run]
        busy = [rank for rank in running if self.stacks.get(rank) and not _waits(self.stacks[rank])]
        return min(busy or running, key=lambda rank: (positions[rank][3:], rank))  # by step, epoch and batch

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
        if not alive and self._ended_alike(found):
            return None
        if all(failure.follows for failure in found):
            # A rank that left without waiting for the others, though they had agreed: a second signal came. Or one whose script
            # caught its exception and was done before anybody looked.
            known = {failure.rank for failure in found}
            found += [failure for failure in self._failures(alone=True) if failure.rank not in known]
        first = min(found, key=lambda failure: (failure.follows, failure.time))
        _tell_torchrun(self.directory, first)
        self.stopped = {*alive, *(failure.rank for failure in found)} - {first.rank}
        processes = [read_json(file_of(self.directory, rank, "process")) for rank in self.pids]
        sessions = {process["session"] for process in processes if process is not None}
        cleaners = []
        for rank in sorted(alive, key=lambda rank: rank != first.rank):
            started = descendants(self.pids[rank])
            _send(self.pids[rank], signal.SIGKILL)
            cleaners += kill(started, sessions)
        cleaners += kill(orphans(self.directory), sessions)
        deadline = time.monotonic() + LEAVE_SECONDS / 2
        while (len(self.codes) < len(self.pids) or any(map(is_running, cleaners))) and time.monotonic() < deadline:
            self._collect()
            time.sleep(0.01)
        # What a rank that failed later says of its exit is known by now.
        code = self.codes.get(first.rank)
        if code is not None and code > 0:
            first.code = code
        return first

    def _ended_alike(self, found: list[Failure]) -> bool:
        """Whether all ended with 0, so that the script caught what ranks raised, or all left by the same ``sys.exit``."""
        if not all(failure.left or failure.report for failure in found):
            return False
        codes = set(self.codes.values())
        everybody = len(found) == len(self.pids) and all(failure.left for failure in found)
        return codes == {0} or (len(codes) == 1 and everybody and found[0].code - 128 not in FORWARDED)

    def _all_failed_and_live(self) -> bool:
        """Whether every rank has told of an exception, none has left, and so the script may have caught it everywhere."""
        reports = [self.report(rank) for rank in self.pids]
        return not self.codes and all(report is not None and not report["follows"] for report in reports)

    def _go_on(self) -> Failure | None:
        # The same exception on all ranks, before any left: they end, or go on, each by itself.
        while len(self.codes) < len(self.pids):
            self._forward()
            self._collect()
            time.sleep(POLL_SECONDS)
            if all(self.report(rank) is None for rank in self.pids):
                return self.run()  # another run began, and forgot the failure
            if any(code != 0 for code in self.codes.values()):
                return self._end(self._failures())
        return None


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


def _tell_torchrun(directory: Path, failure: Failure) -> None:
    """Leaves the failure where torchrun looks for it, if torchrun started the rank and it could not do so itself."""
    process = read_json(file_of(directory, failure.rank, "process")) or {}
    path: str | None = process.get("error_file")
    if path and not Path(path).exists():
        message = f"{failure.headline}\n{failure.traceback}"
        with contextlib.suppress(OSError):
            write_json(Path(path), {"message": {"message": message, "extraInfo": {"timestamp": str(int(failure.time))}}})
