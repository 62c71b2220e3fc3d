"""Seeds, under Lightning's environment variables too."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import leyden
import numpy as np
import torch
from leyden.seeding import derived_seed, isolated_random_state, seed_generators

SEED_VARIABLE = "PL_GLOBAL_SEED"
WORKERS_VARIABLE = "PL_SEED_WORKERS"


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seeds ``random``, numpy and torch on every device, and sets ``PL_GLOBAL_SEED`` and ``PL_SEED_WORKERS``.

    Args:
        seed: from 0 to 2**32 - 1; without, that of ``PL_GLOBAL_SEED``, or 0.
        workers: whether workers of loaders without a ``worker_init_fn`` are seeded by rank and worker.
        verbose: accepted; nothing is printed.

    Returns:
        The seed.

    Raises:
        ValueError: the seed is out of range or not a whole number.
    """
    if seed is None and SEED_VARIABLE in os.environ:
        try:
            seed = int(os.environ[SEED_VARIABLE])
        except ValueError:
            raise ValueError(f"{SEED_VARIABLE}={os.environ[SEED_VARIABLE]!r}: expected a whole number") from None
    number = leyden.seed_everything(seed, workers=workers)
    os.environ[SEED_VARIABLE] = str(number)
    os.environ[WORKERS_VARIABLE] = str(int(workers))
    return number


def reset_seed() -> None:
    """Seeds once more with the seed of :func:`seed_everything`; nothing if it was not called."""
    if SEED_VARIABLE in os.environ:
        seed_everything(int(os.environ[SEED_VARIABLE]), workers=os.environ.get(WORKERS_VARIABLE) == "1")


def pl_worker_init_function(worker_id: int, rank: int | None = None) -> None:
    """Seeds a loader's worker from torch's seed there, which differs by worker and epoch."""
    seed_generators(derived_seed(torch.initial_seed(), worker_id, rank or 0))


@contextmanager
def isolate_rng(include_cuda: bool = True) -> Iterator[None]:
    """Whatever is drawn inside leaves no trace outside."""
    with isolated_random_state():
        yield


def random_seed(low: int = 0, high: int = 2**32 - 1) -> int:
    """A seed drawn from Python's generator."""
    return random.randint(low, min(high, np.iinfo(np.uint32).max))
