"""Workers of loaders leave signals to the process that reads them, which saves first and ends them then.

Schedulers, torchrun and terminals send a signal to all processes of a job. A worker that ended by it would take the run's next
batches with it, before the run has come to the step where it stops.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

_LEFT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))


class _Init:
    """A ``worker_init_fn`` that has a worker do nothing for these signals, and then does what the user's does."""

    def __init__(self, user: Callable[[int], None] | None) -> None:
        self.user = user

    def __call__(self, worker_id: int) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _LEFT:
                signal.signal(number, _nothing)  # not SIG_IGN, which programs that a data set starts would have too
        if self.user is not None:
            self.user(worker_id)


def _nothing(number: int, frame: object) -> None:
    """Is called in place of what a signal does to a process."""


def iterate(iterable: Any) -> Iterator[Any]:
    """``iter(iterable)``, with such workers where it is a DataLoader that has some."""
    if not isinstance(iterable, DataLoader) or not iterable.num_workers:
        return iter(iterable)
    with initialized(iterable, _Init(iterable.worker_init_fn)):
        iterator = iter(iterable)
    for worker in getattr(iterator, "_workers", []):
        # By whom a signal was sent a worker does not know, so that torch and Python, when they end it, take another one.
        worker._popen.terminate = worker._popen.kill
    return iterator


@contextmanager
def initialized(loader: DataLoader[Any], init: Callable[[int], None]) -> Iterator[None]:
    """Workers that the loader starts inside call ``init``; the loader's own ``worker_init_fn`` is back afterwards."""
    user = loader.worker_init_fn
    loader.worker_init_fn = init
    try:
        yield
    finally:
        loader.worker_init_fn = user
