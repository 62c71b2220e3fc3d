"""Opens and closes the process group of a run."""

from __future__ import annotations

import gc
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, PrefixStore, Store, TCPStore  # torch.distributed has them for readers only

from leyden_strategies.launchers.board import RUN_DIRECTORY, wait_for

if TYPE_CHECKING:
    from leyden_strategies.processes import ProcessesStrategy

__all__ = ["Store", "close_group", "open_group", "open_store", "runs_so_far", "store_of"]

_FOR_THE_WATCHER = 120.0
"""Seconds beyond those of a stall: it is for the watcher to find, which says more, and gives a rank that starts 60 of its own."""

_stores: dict[tuple[str, int], Store] = {}
_opened = 0
"""Groups that this process has opened, which is the same number on every rank."""
_ours = False
"""Whether the group that is open is one of ours."""


def store_of(strategy: ProcessesStrategy, port: Path | None) -> Store:
    """The store through which the ranks of a run find each other, one a process.

    Args:
        strategy: knows its rank and its environment.
        port: the file that says where a store is on this machine; None where no process of ours opens one for the ranks.
    """
    environment = strategy.environment
    timeout = timedelta(seconds=strategy.stall_seconds + _FOR_THE_WATCHER)
    given = os.environ.get(RUN_DIRECTORY)
    if port is not None:
        key = (str(port), 0)
        if key not in _stores:
            _stores[key] = _client(port, strategy, timeout)
    elif given is not None and strategy.num_nodes == 1 and environment.creates_processes_externally:
        key = (given, 0)
        if key not in _stores:
            file = Path(given) / "port"
            if strategy.rank == 0:
                _stores[key] = open_store(file, timeout)
            else:
                _stores[key] = _client(file, strategy, timeout)
    elif strategy.world_size == 1 and not environment.creates_processes_externally:
        key = ("alone", 0)
        if key not in _stores:
            _stores[key] = HashStore()
    else:
        key = (environment.main_address, environment.main_port)
        if key not in _stores:
            first = strategy.rank == 0 and not environment.has_store
            _stores[key] = TCPStore(*key, strategy.world_size, first, timeout, wait_for_workers=False)
    # After a restart by torchrun its store still has the addresses of processes that are gone. On several nodes the count of
    # restarts may differ, so that only one node can go by it.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if strategy.num_nodes == 1 else "0"
    return PrefixStore(f"leyden/attempt/{attempt}", _stores[key])


def open_store(port: Path, timeout: timedelta = timedelta(seconds=300)) -> Store:
    """Opens a store at a port that the system chooses, so that nobody can take it in between, and writes it to a file."""
    store = TCPStore("127.0.0.1", 0, None, True, timeout, wait_for_workers=False)
    port.with_suffix(".tmp").write_text(str(store.port))
    port.with_suffix(".tmp").replace(port)
    return store


def _client(port: Path, strategy: ProcessesStrategy, timeout: timedelta) -> Store:
    return TCPStore("127.0.0.1", int(wait_for(port, timeout.total_seconds())), None, False, timeout)


def open_group(strategy: ProcessesStrategy, backend: str, store: Store) -> None:
    """Opens the group, unless the user's script has opened one already.

    Raises:
        RuntimeError: the user's group has other processes than the run.
    """
    global _opened, _ours
    if dist.is_initialized():
        if not _ours:
            if dist.get_world_size() != strategy.world_size or dist.get_rank() != strategy.rank:
                raise RuntimeError(
                    f"the script opened a process group in which this is rank {dist.get_rank()} of {dist.get_world_size()}, but "
                    f"in the run it is rank {strategy.rank} of {strategy.world_size}; leave the group to leyden"
                )
            return
        # The group of a run that failed was left open, for whoever handles the exception may hold what uses it.
        gc.collect()
        dist.destroy_process_group()
    _opened += 1
    dist.init_process_group(
        backend,
        store=PrefixStore(f"run/{_opened}", store),
        rank=strategy.rank,
        world_size=strategy.world_size,
        timeout=timedelta(seconds=strategy.stall_seconds + _FOR_THE_WATCHER),
    )
    _ours = True


def runs_so_far() -> int:
    """How many groups this process has opened; the same number on every rank."""
    return _opened


def close_group() -> None:
    """Closes the group if it is ours; no DDP module may live any more.

    torch deadlocks when one is freed after its group: it joins a thread that waits for the interpreter's lock.
    """
    global _ours
    if _ours and dist.is_initialized():
        _ours = False
        dist.destroy_process_group()
