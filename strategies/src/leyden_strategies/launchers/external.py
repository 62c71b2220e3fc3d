"""Runs in processes that somebody else started: our own launcher, torchrun, a scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leyden_strategies.launchers.board import RUN_DIRECTORY, WATCHER
from leyden_strategies.launchers.rank import Rank, leave_printing_to_the_watcher

if TYPE_CHECKING:
    from leyden_strategies.processes import ProcessesStrategy


class ExternalLauncher:
    """This process is a rank already."""

    in_place = True
    """Whether the ranks run the same script, so that what follows the run is theirs too."""

    def launch(self, strategy: ProcessesStrategy, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Runs the function here, watched."""
        become_rank(strategy)
        return strategy.guard(function, *args)


def become_rank(strategy: ProcessesStrategy) -> None:
    """Has this process watched, once: by the launcher that started it, or else by an observer of its own node."""
    if Rank.current is not None:
        return
    given = os.environ.get(RUN_DIRECTORY)
    if given is not None:
        # Beside these files there are those of the starts before, and what started all of them.
        Rank(Path(given), strategy.rank, int(os.environ.get(WATCHER, os.getppid())), root=Path(given).parent)
        leave_printing_to_the_watcher()
        return
    if strategy.world_size == 1:
        return
    # The processes of a node find one directory through the store, and the first of them starts what watches them all.
    store, key = strategy.store(), f"leyden/node/{strategy.node_rank}/directory"
    if strategy.local_rank == 0:
        store.set(key, tempfile.mkdtemp(prefix="leyden-"))
    directory = Path(store.get(key).decode())
    Rank(directory, strategy.rank, None)
    ready = f"leyden/node/{strategy.node_rank}/ready"
    count = store.add(ready, 1)
    if count == len(strategy.device_indices):
        observer = Path(__file__).with_name("observer.py")
        subprocess.Popen(
            [sys.executable, "-S", str(observer), str(directory), str(strategy.stall_seconds)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # what ends the ranks must not end it first
        )
