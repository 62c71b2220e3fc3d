"""The side of a rank that is watched: it says where it is and how it failed, and ends when its watcher is gone."""

from __future__ import annotations

import faulthandler
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from leyden.data.worker_places import keep_places_in

from leyden_strategies.launchers.board import STACK_SIGNAL, Board, file_of, remove, write_json
from leyden_strategies.launchers.tree import MARK, descendants, kill

_POLL_SECONDS = 0.1
_LEAVE_SECONDS = 5.0

_CONSEQUENCES = re.compile(
    r"closed by (the )?(remote )?peer|Connection (reset|refused|closed)|Broken pipe|[Gg]loo|NCCL|Timed out waiting|TCPStore|"
    r"Socket|DistNetworkError|DistStoreError|recvValue|another rank"
)


class Rank:
    """This process as one of the ranks of a run."""

    current: Rank | None = None
    """The rank that this process is, once it knows."""

    def __init__(self, directory: Path, rank: int, parent: int | None, root: Path | None = None) -> None:
        """Makes the files of the rank.

        Args:
            directory: where they are.
            rank: this process among all.
            parent: the process that watches and without which this one ends; None if a scheduler does that.
            root: what the ranks remove if that process is gone before it could: ``directory`` if not given.

        Raises:
            OSError: there is no room for them.
        """
        self.directory = directory
        self.root = directory if root is None else root
        self.rank = rank
        self.parent = parent
        self.board = Board(file_of(directory, rank, "board"))
        self.reported: BaseException | None = None
        """The exception that was told to the watcher, which prints it."""
        self._has_left = False
        self._polled: list[Callable[[], None]] = []
        self._polling = threading.Lock()
        self._stack = file_of(directory, rank, "stack").open("w", encoding="utf-8")
        faulthandler.register(STACK_SIGNAL, file=self._stack, all_threads=True)
        write_json(
            file_of(directory, rank, "process"),
            {
                "rank": rank,
                "pid": os.getpid(),
                "parent": os.getppid(),
                "session": os.getsid(0),
                "error_file": os.environ.get("TORCHELASTIC_ERROR_FILE"),
            },
        )
        os.environ[MARK] = str(directory)
        keep_places_in(directory)
        self._thread = threading.Thread(target=self._run, name="leyden-rank", daemon=True)
        self._thread.start()
        Rank.current = self

    def _run(self) -> None:
        while True:
            time.sleep(_POLL_SECONDS)
            if self.parent is not None and os.getppid() != self.parent:
                kill(descendants(os.getpid()), {os.getsid(0)})
                remove(self.root)
                os._exit(1)  # whoever watched is gone, and nobody would end this process
            if not self.directory.exists():
                return
            with self._polling:
                for function in list(self._polled):
                    try:
                        function()
                    except Exception:
                        self._polled.remove(function)  # the store of a run that is over

    def poll(self, function: Callable[[], None]) -> None:
        """Has the thread call a function again and again."""
        with self._polling:
            self._polled.append(function)

    def forget(self) -> None:
        """Has it call nothing any more; when this returns it is inside of nothing, in which a process that ends would abort."""
        if self._polling.acquire(timeout=_LEAVE_SECONDS):  # it may wait for a store whose process is gone
            self._polled.clear()
            self._polling.release()

    def begin(self) -> None:
        """Forgets the failure of a run that the user's code caught."""
        self.board.begin()
        self.reported, self._has_left = None, False
        for kind in ("failure", "left"):
            file_of(self.directory, self.rank, kind).unlink(missing_ok=True)

    def left(self, error: BaseException, together: bool) -> None:
        """Tells that this rank leaves without an error, by a signal or ``sys.exit``; what is told first stands.

        Args:
            error: what it leaves by.
            together: whether the ranks have agreed on that; else the others may wait for it in vain.
        """
        if self._has_left:
            return
        self._has_left = True
        how = f"{type(error).__name__}({error})" if str(error) else type(error).__name__
        where = self.board.read().shown()
        with suppress(OSError):
            write_json(
                file_of(self.directory, self.rank, "left"),
                {"how": how, "where": where, "together": together, "time": time.time()},
            )

    def saved(self, path: str) -> None:
        """Tells of a checkpoint that is there, whole."""
        with suppress(OSError):
            write_json(file_of(self.directory, self.rank, "checkpoint"), {"path": path, "time": time.time()})

    def failed(self, error: BaseException) -> None:
        """Tells of an exception, before anything is cleaned up; no other rank is asked for anything."""
        if self.reported is not None:
            return
        self.reported = error
        text = "".join(traceback.format_exception(error))
        where = self.board.read().shown()
        report = {
            "type": type(error).__qualname__,
            "message": str(error),
            "traceback": text,
            "where": where,
            "time": time.time(),
            "follows": is_consequence(error),
        }
        try:
            write_json(file_of(self.directory, self.rank, "failure"), report)
        except OSError:  # the disk may be full, and that be the failure
            self.board.report(report)
        self._tell_torchrun(f"rank {self.rank} failed {where}:\n{text}", error)

    def _tell_torchrun(self, text: str, error: BaseException) -> None:
        path = os.environ.get("TORCHELASTIC_ERROR_FILE")
        if path and not is_consequence(error):
            # What torch's own `record` decorator writes; torchrun prints the first of these as the root cause.
            message = {"message": text, "extraInfo": {"py_callstack": text, "timestamp": str(int(time.time()))}}
            with suppress(OSError):
                write_json(Path(path), {"message": message})


def is_consequence(error: BaseException) -> bool:
    """Whether an exception says that a connection to another rank broke, so that the cause is there."""
    from torch.distributed import DistError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DistError) or (isinstance(seen, RuntimeError | OSError) and _CONSEQUENCES.search(str(seen))):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def leave_printing_to_the_watcher() -> None:
    """From now on an exception that ends this process and was told to the watcher is not printed here as well."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        rank: Any = Rank.current
        if rank is None or rank.reported is not error:
            usual(kind, error, trace)

    sys.excepthook = hook
