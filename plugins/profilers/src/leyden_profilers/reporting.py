"""A profiler that begins anew with each run and tells at its end what it measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leyden import Profiler, hookimpl
from leyden.messages import announce, shown

if TYPE_CHECKING:
    from leyden import Trainer


class ReportingProfiler(Profiler):
    """Prints its summary on rank 0 when a run ends, or writes it to a file; subclasses say how an action is measured.

    Args:
        dirpath: a local directory for what is written; the run's ``log_dir`` if not given.
        filename: writes the summary to ``<dirpath>/<stage>-<filename>.txt`` in place of printing it; with several processes
            each writes its own, those but the first with ``-<rank>`` at the end.

    Raises:
        TypeError: an argument is no path, or no str.
        ValueError: ``filename`` has a directory in it.
    """

    def __init__(self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None) -> None:
        owner = type(self).__name__
        if dirpath is not None and not isinstance(dirpath, str | os.PathLike):
            raise TypeError(f"{owner}(dirpath={dirpath!r}): expected a path, got {shown(dirpath)}")
        if filename is not None and not isinstance(filename, str):
            raise TypeError(f"{owner}(filename={filename!r}): expected a str, got {shown(filename)}")
        if filename is not None and (not filename or Path(filename).name != filename):
            raise ValueError(f"{owner}(filename={filename!r}): expected a name without a directory; that is dirpath")
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.filename = filename
        self.stage: str | None = None
        """The stage of the running or the last run: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``."""
        self._has_begun = False

    def measure(self, action: str) -> AbstractContextManager[Any]:
        """Returns a context that measures one occurrence of ``action``; what raises passes through."""
        raise NotImplementedError

    def wrap(self, function: Callable[..., Any], action: str) -> Callable[..., Any]:
        """Returns a function that does what ``function`` does and is measured as ``action``."""
        measure = self.measure

        @wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with measure(action):
                return function(*args, **kwargs)

        return measured

    def profile(self, action: str) -> AbstractContextManager[Any]:
        """Measures a ``with`` block of the user's as ``action``."""
        return self.measure(action)

    def begin(self, trainer: Trainer) -> None:
        """Called when a run starts: forgets the last one."""

    def end(self, trainer: Trainer) -> None:
        """Called when a run has ended, before the summary is asked for."""

    def directory(self, trainer: Trainer) -> Path:
        """Where this run writes, the same for every process."""
        return self.dirpath if self.dirpath is not None else Path(trainer.log_dir)

    def own_name(self, trainer: Trainer, name: str) -> str:
        """``name`` for the first process, ``<name>-<rank>`` for the others."""
        return name if trainer.is_global_zero else f"{name}-{trainer.strategy.rank}"

    @hookimpl(tryfirst=True)
    def setup(self, trainer: Trainer, stage: str) -> None:
        """Begins, before everybody else's setup."""
        self.stage = stage
        self._directory = self.directory(trainer) if self.filename is not None else None
        self.begin(trainer)
        self._has_begun = True

    @hookimpl(trylast=True)
    def teardown(self, trainer: Trainer) -> None:
        """Ends, and tells."""
        if not self._has_begun:
            return  # the run failed before its setup, and what is known is of the one before
        self._has_begun = False
        self.end(trainer)
        text = self.summary()
        if not text:
            return
        if self._directory is None:
            trainer.print(text)
            return
        path = self._directory / f"{self.own_name(trainer, f'{self.stage}-{self.filename}')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        if trainer.is_global_zero:
            announce(f"profile written to {path}")
