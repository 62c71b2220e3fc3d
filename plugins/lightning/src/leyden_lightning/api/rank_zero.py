"""Functions that act on rank 0 only."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger("leyden_lightning")


class LightningDeprecationWarning(DeprecationWarning):
    """Something will go."""


class PossibleUserWarning(UserWarning):
    """Something that may be a mistake."""


class WarningCache(set[str]):
    """Messages that were given once already."""

    def warn(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        """Warns, once for each message."""
        if message not in self:
            self.add(message)
            rank_zero_warn(message, stacklevel=stacklevel, **kwargs)

    def info(self, message: str, stacklevel: int = 5) -> None:
        """Logs, once for each message."""
        if message not in self:
            self.add(message)
            rank_zero_info(message)

    def deprecation(self, message: str, stacklevel: int = 6) -> None:
        """Warns of what will go, once for each message."""
        if message not in self:
            self.add(message)
            rank_zero_deprecation(message, stacklevel=stacklevel)


def _rank() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return next((int(os.environ[name]) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if os.environ.get(name, "")), 0)


class _RankZeroOnly:
    """The decorator, with the attribute ``rank`` that scripts read."""

    @property
    def rank(self) -> int:
        """This process among all of the run."""
        return _rank()

    def __call__(self, function: Callable[..., Any], default: Any = None) -> Callable[..., Any]:
        @wraps(function)
        def on_rank_zero(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs) if _rank() == 0 else default

        return on_rank_zero


rank_zero_only = _RankZeroOnly()
"""Decorates a function that does nothing on ranks other than 0."""


def rank_zero_info(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Logs on rank 0."""
    if _rank() == 0:
        _log.info(*args, stacklevel=stacklevel, **kwargs)


def rank_zero_debug(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Logs on rank 0."""
    if _rank() == 0:
        _log.debug(*args, stacklevel=stacklevel, **kwargs)


def rank_zero_warn(message: Any, stacklevel: int = 4, category: type[Warning] = UserWarning, **kwargs: Any) -> None:
    """Warns on rank 0."""
    if _rank() == 0:
        warnings.warn(message, category, stacklevel=max(stacklevel - 2, 2), **kwargs)


def rank_zero_deprecation(message: Any, stacklevel: int = 5, **kwargs: Any) -> None:
    """Warns on rank 0 of what will go."""
    rank_zero_warn(message, stacklevel=stacklevel + 1, category=LightningDeprecationWarning, **kwargs)


def rank_prefixed_message(message: str, rank: int | None) -> str:
    """The message with the rank before it."""
    return message if rank is None else f"[rank: {rank}] {message}"


def disable_possible_user_warnings(module: str = "") -> None:
    """Silences :class:`PossibleUserWarning`."""
    warnings.filterwarnings("ignore", category=PossibleUserWarning, module=module)


class DummyExperiment:
    """Takes any call and does nothing: what ``experiment`` is on ranks other than 0."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return self.nop

    def __getitem__(self, _: Any) -> DummyExperiment:
        return self

    def __setitem__(self, *_: Any) -> None:
        """Keeps nothing."""

    def nop(self, *_: Any, **__: Any) -> None:
        """Does nothing."""


def rank_zero_experiment(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a logger's ``experiment``, which is a :class:`DummyExperiment` on ranks other than 0."""

    @wraps(function)
    def experiment(self: Any) -> Any:
        return function(self) if _rank() == 0 else DummyExperiment()

    return experiment
