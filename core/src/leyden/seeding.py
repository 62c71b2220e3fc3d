"""Where the random numbers of a run come from."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

SEED_VARIABLE = "LEYDEN_SEED"
WORKERS_VARIABLE = "LEYDEN_SEED_WORKERS"

_MAX = 2**32 - 1  # numpy takes 32 bits


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seeds ``random``, numpy and torch on every device.

    Sets no cudnn flags: ``Trainer(deterministic=..., benchmark=...)`` does.

    Args:
        seed: from 0 to 2**32 - 1; without, the variable ``LEYDEN_SEED``, or 0.
        workers: whether loaders without a ``worker_init_fn`` get one that seeds each worker by rank and worker.
        verbose: accepted for existing code; leyden prints nothing here.

    Returns:
        The seed.

    Raises:
        ValueError: the seed is out of range or not a whole number.
    """
    given: Any = os.environ.get(SEED_VARIABLE, "0") if seed is None else seed
    try:
        number = int(given)
    except (TypeError, ValueError):
        raise ValueError(f"seed={given!r}: expected a whole number from 0 to {_MAX}") from None
    if not 0 <= number <= _MAX:
        raise ValueError(f"seed={given!r}: expected a whole number from 0 to {_MAX}")
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
    os.environ[SEED_VARIABLE] = str(number)
    os.environ[WORKERS_VARIABLE] = str(int(workers))
    return number


def derived_seed(*parts: object) -> int:
    """A seed of 63 bits from any mix of numbers and names, such as ``(seed, rank, epoch, "worker", 3)``.

    Different parts give different seeds, save by the chance of a 63-bit hash.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def worker_init(worker_id: int) -> None:
    """Seeds ``random`` and numpy in a loader's worker from torch's seed there, which differs by worker and epoch."""
    seed = derived_seed(torch.initial_seed(), worker_id)
    random.seed(seed)
    np.random.seed(seed % _MAX)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every generator that training draws from, in this process."""
    state: dict[str, Any] = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types here
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Takes back what :func:`random_state` gave."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def isolated_random_state() -> Iterator[None]:
    """Whatever is drawn inside leaves no trace outside."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
