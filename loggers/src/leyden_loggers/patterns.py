"""Chooses keys by patterns."""

from __future__ import annotations

from collections.abc import Sequence, Set
from fnmatch import fnmatchcase
from typing import Any

from leyden.messages import quoted, shown


class Patterns:
    """Which keys are wanted; all where no patterns are given.

    Args:
        owner: the logger's class, for the message.
        keys: patterns such as ``"val/*"``.

    Raises:
        TypeError: it is no list of str.
    """

    def __init__(self, owner: str, keys: Sequence[str] | None) -> None:
        given: Any = keys
        is_list = isinstance(given, Sequence | Set) and not isinstance(given, str)
        if given is not None and (not is_list or not all(isinstance(key, str) for key in given)):
            raise TypeError(f"{owner}(keys={quoted(keys)}): expected a list of patterns such as ['val/*'], got {shown(keys)}")
        self.keys = None if keys is None else tuple(keys)

    def match(self, key: str) -> bool:
        """Whether ``key`` is wanted."""
        return self.keys is None or any(fnmatchcase(key, pattern) for pattern in self.keys)
