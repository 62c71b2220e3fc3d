"""Training on ranks that have different amounts of data."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

Batches = Generator[tuple[Any, bool], None, None]

_END: Any = object()


def stop_together(batches: Batches, all_have: Callable[[bool], bool]) -> Batches:
    """The batches until the first rank has no more.

    Args:
        batches: this rank's, each with whether it is the last.
        all_have: of whether this rank has another batch: whether every rank has one; all ranks call it.
    """
    try:
        current = next(batches, _END)
        if not all_have(current is not _END):
            return
        while True:
            batch, is_last = current
            more = all_have(not is_last)
            yield batch, not more
            if not more:
                return
            current = next(batches)
    finally:
        batches.close()


def wrap_around(batches: Batches, reopen: Callable[[], Batches], any_has: Callable[[bool], bool], wrapped: bool) -> Batches:
    """The batches until the last rank has no more; whoever has no more begins again.

    Args:
        batches: this rank's, each with whether it is the last.
        reopen: gives them from the beginning once more.
        any_has: of whether this rank has another batch that it has not had: whether any rank has one; all ranks call it.
        wrapped: whether this rank has begun again already, as where a run goes on from a checkpoint.

    Raises:
        ValueError: a rank has none at all.
    """
    try:
        current, whole = next(batches, _END), not wrapped
        if any_has(current is _END):
            raise ValueError("a rank has no training batch at all, so that it cannot begin again; use uneven='join'")
        while True:
            batch, is_last = current
            whole = whole and not is_last
            more = any_has(whole)
            yield batch, not more
            if not more:
                return
            if is_last:
                batches.close()
                batches = reopen()
            current = next(batches)
    finally:
        batches.close()


def join_others(batches: Batches, any_has: Callable[[bool], bool], idle: Callable[[bool], None]) -> Batches:
    """The batches, and then None as long as another rank has one; ``idle`` is told whether this rank only joins in."""
    try:
        current = next(batches, _END)
        if not any_has(current is not _END):
            return
        while True:
            batch, is_last = (None, True) if current is _END else current
            more = any_has(not is_last)
            idle(current is _END)
            yield batch, not more
            if not more:
                return
            current = _END if is_last else next(batches)
    finally:
        batches.close()
