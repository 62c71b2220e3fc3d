"""Training on ranks that have different amounts of data."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

Batches = Generator[tuple[Any, bool], None, None]

_END = object()


def stop_together(batches: Batches, all_have: Callable[[bool], bool]) -> Batches:
    """The batches until the first rank has no more.

    Args:
        batches: this rank's.
        all_have: of whether this rank has another batch: whether every rank has one; all ranks call it.
    """
    try:
        current = next(batches, _END)
        if not all_have(current is not _END):
            return
        while True:
            following = next(batches, _END)
            more = all_have(following is not _END)
            yield current[0], not more  # type: ignore[index]  # a pair, where every rank has one
            if not more:
                return
            current = following
    finally:
        batches.close()


def wrap_around(batches: Batches, reopen: Callable[[], Batches], any_has: Callable[[bool], bool]) -> Batches:
    """The batches until the last rank has no more; whoever has no more begins again.

    Raises:
        ValueError: a rank has none at all.
    """
    try:
        current, whole = next(batches, _END), True
        if any_has(current is _END):
            raise ValueError("a rank has no training batch at all, so that it cannot begin again; use uneven='join'")
        while True:
            following = next(batches, _END)
            whole = whole and following is not _END
            more = any_has(whole)
            if more and following is _END:
                batches.close()
                batches = reopen()
                following = next(batches)
            yield current[0], not more  # type: ignore[index]  # a pair
            if not more:
                return
            current = following
    finally:
        batches.close()


def join_others(batches: Batches, any_has: Callable[[bool], bool], idle: Callable[[bool], None]) -> Batches:
    """The batches, and then None as long as another rank has one; ``idle`` is told whether this rank only joins in."""
    try:
        current = next(batches, _END)
        if not any_has(current is not _END):
            return
        while True:
            following = _END if current is _END else next(batches, _END)
            more = any_has(following is not _END)
            idle(current is _END)
            yield None if current is _END else current[0], not more  # type: ignore[index]  # a pair
            if not more:
                return
            current = following
    finally:
        batches.close()
