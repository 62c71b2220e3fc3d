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

from leyden.messages import quoted

SEED_VARIABLE = "LEYDEN_SEED"
EVERYWHERE_VARIABLE = "LEYDEN_SEED_WORKERS"

_MAX = 2**32 - 1  # numpy takes 32 bits


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seeds ``random``, numpy and torch on every device.

    Sets no cudnn flags: ``Trainer(deterministic=..., benchmark=...)`` does.

    Args:
        seed: from 0 to 2**32 - 1; without, the variable ``LEYDEN_SEED``, or 0.
        workers: whether batches that the training process reads itself are seeded like those of workers, which always are: each
            by seed, rank, epoch and position. Then a run is the same whatever ``num_workers`` is. It takes some 20 microseconds
            a batch.
        verbose: accepted for existing code; leyden prints nothing here.

    Returns:
        The seed.

    Raises:
        ValueError: the seed is out of range or not a whole number.
    """
    number = _checked(os.environ.get(SEED_VARIABLE, "0") if seed is None else seed)
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
    os.environ[SEED_VARIABLE] = str(number)
    os.environ[EVERYWHERE_VARIABLE] = str(int(workers))
    return number


def seeds_everywhere() -> bool:
    """Whether ``seed_everything(workers=True)`` asked for what the training process draws to be seeded for each batch."""
    return os.environ.get(EVERYWHERE_VARIABLE) == "1"


def derived_seed(*parts: object) -> int:
    """A seed of 63 bits from any mix of numbers and names, such as ``(seed, rank, epoch, "worker", 3)``.

    Different parts give different seeds, save by the chance of a 63-bit hash.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def run_seed() -> int:
    """The seed of a run that starts now: that of ``seed_everything``, else the one torch was last seeded with.

    torch seeds itself with a number of its own where nobody does, so this is drawn once a process and draws nothing itself.
    """
    given = os.environ.get(SEED_VARIABLE)
    return _checked(given) if given is not None else torch.initial_seed() % 2**63


def _checked(given: Any) -> int:
    try:
        number = int(given)
        if isinstance(given, float) and given != number:
            raise ValueError(given)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"seed={quoted(given)}: expected a whole number from 0 to {_MAX}") from None
    if not 0 <= number <= _MAX:
        raise ValueError(f"seed={quoted(given)}: expected a whole number from 0 to {_MAX}")
    return number


def seed_generators(seed: int) -> None:
    """Seeds ``random``, numpy and torch's CPU generator; 6 microseconds, so it can be done for every batch."""
    seed_python(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 130 microseconds, for devices that there are not


def seed_python(seed: int) -> None:
    """Seeds ``random`` and numpy."""
    random.seed(seed)
    np.random.seed(seed & _MAX)


class SeededIndex:
    """An index, or a list of them, that seeds the generators of the process that unpickles it, and is a plain index there.

    A DataLoader sends its workers pickled indices, and a worker fetches what it received at once. So this seeds a worker for
    one batch, whatever it fetched before, and neither data set nor sampler nor the worker is wrapped.
    """

    __slots__ = ("index", "seed")

    def __init__(self, seed: int, index: Any) -> None:
        self.seed = seed
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.seed, self.index)


def _received(seed: int, index: Any) -> Any:
    seed_generators(seed)
    return index


def device_generators(device: torch.device) -> list[torch.Generator]:
    """The generators that operations of a process on ``device`` draw from: the CPU's, and the device's if it has one."""
    found = [torch.default_generator]
    own = getattr(getattr(torch, device.type, None), "default_generators", ())  # cuda, xpu
    if own:
        found.append(own[device.index or 0])
    return found


class StepNumbers:
    """The random numbers of training steps, a stream of torch that nothing else draws from.

    It goes on from one step to the next, whatever hooks and data sets draw in between: 2 microseconds a step.
    """

    def __init__(self, device: torch.device, rank: int = 0, seed: int = 0) -> None:
        """Starts where torch's generators stand; on another rank than the first, at a seed of its own."""
        self.generators = device_generators(device)
        if rank:
            for generator in self.generators:
                generator.manual_seed(derived_seed(seed, rank, "step"))
        self.states: list[torch.Tensor] = []
        self.leave()

    def draw(self) -> None:
        """Draws the number that torch's DataLoader draws for its workers when it is iterated over.

        With it, a fit on batches in a fixed order draws the same numbers as the plain loop.
        """
        self.enter()
        torch.empty((), dtype=torch.int64).random_()
        self.leave()

    def enter(self) -> None:
        """A step begins: torch draws from this stream."""
        self.generators[0].set_state(self.states[0])
        for generator, state in zip(self.generators[1:], self.states[1:], strict=True):
            generator.set_state(state)

    def leave(self) -> None:
        """A step is done: the stream goes on from here."""
        self.states = [generator.get_state() for generator in self.generators]


def random_state() -> dict[str, Any]:
    """The state of every generator that training draws from, in this process, as plain data."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": [version, torch.tensor(words), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types here
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Takes back what :func:`random_state` gave; on fewer devices than there were, those that are there."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        for index, device_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(device_state, index)


@contextmanager
def isolated_random_state() -> Iterator[None]:
    """Whatever is drawn inside leaves no trace outside."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
