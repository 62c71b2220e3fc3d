"""Says once for each use of something old which line to change, and to what."""

from __future__ import annotations

import warnings
from contextvars import ContextVar
from typing import Any

from leyden import LeydenWarning

from leyden_lightning.api.exceptions import MisconfigurationException, where_from

_seen: set[tuple[str, int, str]] = set()

strict: ContextVar[bool] = ContextVar("strict", default=False)
"""Whether something old is an error: ``Trainer(strict_api="2.6")``."""


class LegacyWarning(LeydenWarning):
    """Something that Lightning 2.6 no longer has was used; ``warnings.simplefilter("ignore", LegacyWarning)`` silences it."""


def legacy(what: str, instead: str, at: tuple[str, int] | None = None) -> None:
    """Warns of one use.

    Args:
        what: what was used, such as ``"Trainer(gpus=2)"``.
        instead: what to write, such as ``"Trainer(accelerator='gpu', devices=2)"``.
        at: file and line; where the user's code is now, if not given.

    Raises:
        MisconfigurationException: the Trainer was built with ``strict_api="2.6"``.
    """
    filename, line = at or where_from()
    if strict.get():
        raise MisconfigurationException(f"{what} ({filename}:{line}) is older than strict_api='2.6' allows; write {instead}")
    if (filename, line, what) in _seen:
        return
    _seen.add((filename, line, what))
    message = f"{what} is of an older Lightning; it works, and in 2.6 one writes {instead}"
    warnings.warn_explicit(message, LegacyWarning, filename, line)


def definition(function: Any) -> tuple[str, int] | None:
    """File and line where a function is defined."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else None


def forget() -> None:
    """Warns again of what was warned of before, for tests."""
    _seen.clear()
