"""Where the worker processes of a loader are: at which batch, and in which line."""

from __future__ import annotations

import faulthandler
import os
import re
import shutil
import signal
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils.fetch import _MapDatasetFetcher

from leyden.data.worker_signals import initialized

_SIGNAL = getattr(signal, "SIGURG", None) if hasattr(faulthandler, "register") else None
"""Asks a worker for its stack. One that is not ready yet ignores it."""

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')
_FETCH = str(Path("torch", "utils", "data", "_utils", "fetch.py"))


class _Init:
    """A ``worker_init_fn`` that has a worker write its stack when it is asked to, and then does what the user's does."""

    def __init__(self, directory: str, user: Callable[[int], None] | None) -> None:
        self.directory = directory
        self.user = user

    def __call__(self, worker_id: int) -> None:
        file = Path(self.directory, str(worker_id)).open("w", encoding="utf-8")  # noqa: SIM115  # faulthandler keeps it open
        faulthandler.register(int(_SIGNAL or 0), file=file, all_threads=False, chain=False)
        if self.user is not None:
            self.user(worker_id)


_directories: weakref.WeakKeyDictionary[DataLoader[Any], tuple[str, int]] = weakref.WeakKeyDictionary()
"""Where the workers of each loader write, and the process that made it, for a fork has its parent's too; gone with the loader."""


_parent: Path | None = None
"""Where the directories are made; the system's place for such if None."""


def keep_places_in(directory: Path) -> None:
    """Has what workers of this process write lie in a directory that somebody else removes, however this process ends."""
    global _parent
    _parent = directory


@contextmanager
def traced_workers(loader: Any) -> Iterator[None]:
    """Workers that a DataLoader starts inside can be asked where they are; the loader is as before afterwards."""
    if _SIGNAL is None or not isinstance(loader, DataLoader) or not loader.num_workers:
        yield
        return
    if loader not in _directories:
        _directories[loader] = made = tempfile.mkdtemp(prefix="leyden-workers-", dir=_parent), os.getpid()
        weakref.finalize(loader, _remove, *made)
    with initialized(loader, _Init(_directories[loader][0], loader.worker_init_fn)):
        yield


def _remove(directory: str, process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(directory, ignore_errors=True)


def describe_workers(loader: Any, iterator: Any, number: int) -> str:
    """What the workers are doing that batch ``number`` waits for, for a message: ``worker 1 (process 12) is in ...``."""
    workers: list[Any] = getattr(iterator, "_workers", [])
    awaited = _worker_of(iterator, getattr(iterator, "_rcvd_idx", None))
    chosen = [awaited] if awaited is not None and awaited < len(workers) else range(len(workers))
    return "; ".join(f"worker {index} (process {workers[index].pid}) {_doing(loader, index, workers[index])}" for index in chosen)


def dead_workers(iterator: Any, number: int, wait: float = 0.0) -> str:
    """Which workers have died, for a message, and the first batch of each that has not come; empty if none has.

    Args:
        iterator: a DataLoader's.
        number: the index of the batch that is read.
        wait: how many seconds to give workers to end.
    """
    waiting: dict[int, int] = {}
    for task in sorted(getattr(iterator, "_task_info", {})):
        worker = _worker_of(iterator, task)
        if worker is not None and len(iterator._task_info[task]) == 1:  # sent to it, not yet back
            waiting.setdefault(worker, task)
    first = number - getattr(iterator, "_rcvd_idx", number)
    deadline, found = time.monotonic() + wait, []
    for index, worker in enumerate(getattr(iterator, "_workers", [])):
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.exitcode and index in waiting:
            found.append(
                f"DataLoader worker {index} (process {worker.pid}) ended with exit code {worker.exitcode} and gave batch "
                f"{first + waiting[index]} no more"
            )
    return ", ".join(found)


def sample_of(trace: TracebackType | None) -> str:
    """Which sample was fetched in this process where an error came from, for a message; empty if it was none.

    All samples of the batch where it was the collate function that raised it.
    """
    found = ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(_FETCH):
            names = trace.tb_frame.f_locals
            if "idx" in names:
                found = named(names["idx"])
            elif isinstance(names["self"], _MapDatasetFetcher):
                found = named(names.get("possibly_batched_index"))
        trace = trace.tb_next
    return found


def named(index: Any) -> str:
    """The samples of a batch for a message, by their index or their list of indices; empty if it is None."""
    if index is None:
        return ""
    if not isinstance(index, list):
        return f"sample {index!r}"
    return f"samples {index}" if len(index) <= 20 else f"samples {repr(index[:20])[:-1]}, ... {len(index)} in all]"


def _worker_of(iterator: Any, task: int | None) -> int | None:
    info = getattr(iterator, "_task_info", {}).get(task)
    return int(info[0]) if info else None


def _doing(loader: Any, index: int, worker: Any) -> str:
    if not worker.is_alive():
        return f"has ended with exit code {worker.exitcode}"
    frames = _stack(loader, index, worker.pid)
    if not frames:
        return "does not say where it is"
    fetch = next((position for position, frame in enumerate(frames) if frame["file"].endswith(_FETCH)), 1)
    outer, inner = frames[max(fetch - 1, 0)], frames[0]
    text = f"is in {outer['name']}, {outer['file']} line {outer['line']}"
    return text if inner is outer else f"{text}, and there in {inner['name']}, {inner['file']} line {inner['line']}"


def _stack(loader: Any, index: int, pid: int) -> list[dict[str, str]]:
    """The frames of a worker's main thread, the innermost first; empty if it does not answer within a second."""
    if _SIGNAL is None or loader not in _directories:
        return []
    path = Path(_directories[loader][0], str(index))
    try:
        before = path.stat().st_size
        os.kill(pid, _SIGNAL)
    except OSError:
        return []
    deadline, text = time.monotonic() + 1.0, ""
    while time.monotonic() < deadline:
        time.sleep(0.02)
        new = path.read_text(encoding="utf-8", errors="replace")[before:]
        if new and new == text:
            break
        text = new
    return [match.groupdict() for match in map(_FRAME.match, text.splitlines()) if match]
