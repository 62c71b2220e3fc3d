"""Combines what the processes of a run logged, by one collective, and finds keys that are not the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from leyden.messages import listed
from leyden.metrics.values import largest, smallest, to_floats
from leyden.strategy import Strategy

_BLOCK = 256
"""Numbers that each process sends at once, whatever it has, so that processes with other keys do not wait for one another."""
_FUNCTIONS: dict[str, Callable[[list[float]], float]] = {"sum": sum, "min": smallest, "max": largest}
_HEADER = 2  # a digest of the keys, and how many there are


@dataclass
class Part:
    """What one process has of one key."""

    key: str
    reduction: str
    """``"mean"``, ``"sum"``, ``"min"`` or ``"max"``."""
    total: Any = 0.0
    """The sum, for means of value times weight; or the smallest or largest."""
    weight: float = 0.0
    recipe: tuple[Any, ...] = ()
    """The index of the loader, and what else another process needs to have the key too, if it had no batch of that."""


def combined(
    strategy: Strategy, parts: Sequence[Part], moment: str, seen: set[int] | None = None
) -> tuple[list[float], list[Part]]:
    """The values of all keys over all processes; every process calls it.

    Args:
        strategy: of the run.
        parts: what this process has, in the order in which it was logged.
        moment: where it was logged, for messages.
        seen: the loaders of which this process had a batch; it lacks the keys of others by right. None where that is no reason.

    Returns:
        The value of each of ``parts``, and of each of the keys that others have and this process lacks by right, which are
        given too.

    Raises:
        ValueError: the processes logged other keys, or in another order.
    """
    names = [(part.key, part.reduction) for part in parts]
    digest = int.from_bytes(hashlib.blake2b(repr(names).encode(), digest_size=6).digest(), "little")
    own = [float(digest), float(len(parts)), *_numbers(parts)]
    device, size = strategy.device, _BLOCK
    sent = torch.tensor(own[:size] + [0.0] * (size - len(own)), dtype=torch.float64, device=device)
    rows: list[list[float]] = strategy.all_gather(sent).tolist()
    missing: list[Part] = []
    if len({(row[0], row[1]) for row in rows}) > 1:
        missing = _reconciled(strategy, parts, moment, seen)
        parts = [*parts, *missing]
        # Whoever had no batch has its keys in another order; by name it is the same everywhere.
        order = sorted(range(len(parts)), key=lambda index: (parts[index].key, parts[index].reduction))
        ordered = [parts[index] for index in order]
        everything = strategy.all_gather(torch.tensor(_numbers(ordered), dtype=torch.float64, device=device)).tolist()
        values = dict(zip(order, _values(ordered, everything), strict=True))
        return [values[index] for index in range(len(parts))], missing
    if len(own) > size:
        more = strategy.all_gather(torch.tensor(own[size:], dtype=torch.float64, device=device)).tolist()
        rows = [row + other for row, other in zip(rows, more, strict=True)]
    return _values(parts, [row[_HEADER : len(own)] for row in rows]), missing


def _numbers(parts: Sequence[Part]) -> list[float]:
    return to_floats([part.total for part in parts]) + [float(part.weight) for part in parts]


def _values(parts: Sequence[Part], rows: list[list[float]]) -> list[float]:
    count = len(parts)
    found: list[float] = []
    for index, part in enumerate(parts):
        column = [row[index] for row in rows]
        if part.reduction == "mean":
            weight = sum(row[count + index] for row in rows)
            found.append(sum(column) / weight if weight else float("nan"))
        else:
            found.append(_FUNCTIONS[part.reduction](column))
    return found


def _reconciled(strategy: Strategy, parts: Sequence[Part], moment: str, seen: set[int] | None) -> list[Part]:
    """The keys that this process lacks by right, with values that change nothing."""
    own = [(part.key, part.reduction, part.recipe) for part in parts]
    everybody: list[tuple[set[int] | None, list[tuple[str, str, tuple[Any, ...]]]]] = strategy.all_gather_object((seen, own))
    loaders = sorted({recipe[0] if recipe else 0 for _, keys in everybody for _, _, recipe in keys})
    for loader in loaders:
        whole: list[tuple[int, list[tuple[str, str]]]] = [
            (rank, [(key, reduction) for key, reduction, recipe in keys if (recipe[0] if recipe else 0) == loader])
            for rank, (its, keys) in enumerate(everybody)
            if its is None or loader in its
        ]
        for rank, other in whole[1:]:
            first, reference = whole[0]
            if other != reference:
                raise ValueError(_difference(moment, first, [key for key, _ in reference], rank, [key for key, _ in other]))
    known: dict[tuple[str, str], tuple[Any, ...]] = {}
    for _, keys in everybody:
        known.update({(key, reduction): recipe for key, reduction, recipe in keys})
    have = {(part.key, part.reduction) for part in parts}
    neutral = {"min": float("inf"), "max": float("-inf")}
    return [
        Part(key, reduction, neutral.get(reduction, 0.0), 0.0, recipe)
        for (key, reduction), recipe in known.items()
        if (key, reduction) not in have
    ]


def _difference(moment: str, first: int, reference: list[str], rank: int, keys: list[str]) -> str:
    advice = "log the same keys in the same order on every rank, or pass rank_zero_only=True for what rank 0 alone logs"
    only_first, only_other = [key for key in reference if key not in keys], [key for key in keys if key not in reference]
    if only_first or only_other:
        told = [f"rank {who} logged {listed(names)} and rank {other} did not"
                for who, names, other in ((first, only_first, rank), (rank, only_other, first)) if names]  # fmt: skip
        return f"the ranks logged different keys in {moment}: {'; '.join(told)}; {advice}"
    here, there = next((a, b) for a, b in zip(reference, keys, strict=True) if a != b)
    return (
        f"the ranks logged their keys in another order in {moment}: where rank {first} has {here!r}, rank {rank} has {there!r}; "
        f"{advice}"
    )
