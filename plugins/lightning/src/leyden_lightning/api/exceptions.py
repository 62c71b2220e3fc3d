"""Lightning's exceptions, and errors of leyden that are Lightning's too."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any, TypeVar

from leyden.messages import add_note

F = TypeVar("F", bound=Callable[..., Any])


class MisconfigurationException(Exception):
    """Something was asked for that cannot be; under leyden such an error is a ValueError, a TypeError and so on as well."""


class DeadlockDetectedException(Exception):
    """A process waits for one that is gone."""


class ExitGracefullyException(SystemExit):
    """The process was told to end."""


class SIGTERMException(SystemExit):
    """The process was told to end by SIGTERM."""


_ASKED = (ValueError, TypeError, LookupError, NotImplementedError)


@cache
def _both(error: type[Exception]) -> type[Exception]:
    return type(error.__name__, (MisconfigurationException, error), {"__module__": error.__module__})


@contextmanager
def lightnings_errors() -> Iterator[None]:
    """Inside, an error of leyden's own about what it was asked is a MisconfigurationException too; others pass unchanged."""
    try:
        yield
    except _ASKED as error:
        if isinstance(error, MisconfigurationException | KeyError) or not _raised_here(error):
            raise
        try:
            kind: Any = type(error)
            twin = _both(kind)(*error.args)
        except TypeError:  # a class with a layout or arguments of its own
            raise error from error.__cause__
        for note in getattr(error, "__notes__", ()):
            add_note(twin, note)
        cause = error.__cause__
        traceback = error.__traceback__
    else:
        return
    raise twin.with_traceback(traceback) from cause


def _raised_here(error: BaseException) -> bool:
    """Whether the last frame of an error is of leyden, so that it is about what was asked and not the user's own."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    return _is_leydens(traceback.tb_frame)


def _is_leydens(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0].startswith("leyden") and not name.startswith("leyden_lightning.api.boring")


def where_from() -> tuple[str, int]:
    """File and line of the innermost frame that is not leyden's: where the user's code is."""
    frame = inspect.currentframe()
    while frame is not None:
        if not _is_leydens(frame) and frame.f_globals.get("__name__") not in ("contextlib", "pluggy._callers"):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return sys.argv[0] or "<unknown>", 1
