"""Runs a function in several processes at once, for tests of what processes do together."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from leyden.data.worker_places import keep_places_in
from leyden.environment import ClusterEnvironment


class RanksEnvironment(ClusterEnvironment):
    """The processes of :func:`run_ranks`: pass it as ``Trainer(environment=...)``."""

    name = "ranks"

    def __init__(self, rank: int, world_size: int, port: Path) -> None:
        self._rank = rank
        self._world_size = world_size
        self._port = port

    def reason(self) -> str:
        """Why it was chosen."""
        return "a test started them"

    @property
    def creates_processes_externally(self) -> bool:
        """The other processes exist already."""
        return True

    @property
    def has_store(self) -> bool:
        """The process that started them has the store, so that no port is taken in between."""
        return True

    @property
    def world_size(self) -> int:
        """How many processes take part."""
        return self._world_size

    @property
    def local_world_size(self) -> int:
        """All of them are on this machine."""
        return self._world_size

    @property
    def rank(self) -> int:
        """This process among all of them, from 0."""
        return self._rank

    @property
    def local_rank(self) -> int:
        """As ``rank``."""
        return self._rank

    @property
    def main_port(self) -> int:
        """Where the store listens, as soon as a file says so.

        Raises:
            TimeoutError: it did not within a minute.
        """
        deadline = time.monotonic() + 60
        while not self._port.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("waited 60 s for the process that started this one to open the store")
            time.sleep(0.001)
        return int(self._port.read_text())


class RankFailure(AssertionError):
    """A process of :func:`run_ranks` raised or died; its traceback is in the message."""


def run_ranks(function: Callable[[RanksEnvironment], Any], world_size: int = 2, seconds: float = 60.0) -> list[Any]:
    """Calls ``function(environment)`` in forked processes and returns what each returned, by rank.

    Forking takes a fraction of the time of starting Python and importing torch anew. The function may be a closure; what it
    returns must be picklable. It usually builds ``Trainer(environment=environment, devices=world_size, ...)``.

    Args:
        function: what each process does.
        world_size: how many processes.
        seconds: when they are killed.

    Raises:
        RankFailure: one raised, died, or took too long.
    """
    import torch._dynamo  # noqa: F401  # what building DDP imports, once here and not in each process for 2 seconds
    from torch._C._distributed_c10d import TCPStore

    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        processes = [
            context.Process(target=_run, args=(function, RanksEnvironment(rank, world_size, place / "port"), place))
            for rank in range(world_size)
        ]
        gc.freeze()  # a collection in a fork would copy every page of what is here
        try:
            for process in processes:
                process.start()
        finally:
            gc.unfreeze()
        # Not before all are forked: it has a thread, and a lock that a thread holds during a fork is never let go of in the fork.
        store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
        (place / "port.part").write_text(str(store.port))
        (place / "port.part").replace(place / "port")
        deadline = time.monotonic() + seconds
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0.01))
        late = [rank for rank, process in enumerate(processes) if process.exitcode is None]
        for process in processes:
            if process.exitcode is None:
                process.kill()
                process.join()
        outcomes: list[Any] = []
        failures: list[tuple[float, str]] = []
        for rank, process in enumerate(processes):
            file = place / str(rank)
            if not file.exists():
                how = f"was killed after {seconds:g} s" if rank in late else f"left with exit code {process.exitcode}"
                failures.append((time.time(), f"rank {rank} {how}"))
                continue
            when, error, value = pickle.loads(file.read_bytes())
            outcomes.append(value)
            if error:
                failures.append((when, f"rank {rank} raised\n{error}"))
    if failures:
        raise RankFailure("\n".join(text for _, text in sorted(failures)))
    return outcomes


def _run(function: Callable[[RanksEnvironment], Any], environment: RanksEnvironment, place: Path) -> None:
    torch.set_num_threads(1)  # a fork has none of its parent's OpenMP threads, and would wait for them for ever
    keep_places_in(place)
    error, value = "", None
    try:
        value = function(environment)
    except BaseException:
        error = traceback.format_exc()
    part = place / f"{environment.rank}.part"
    part.write_bytes(pickle.dumps((time.time(), error, value)))
    part.replace(place / str(environment.rank))
    os._exit(1 if error else 0)  # what the test's own process registered to be done at exit is not for this one
