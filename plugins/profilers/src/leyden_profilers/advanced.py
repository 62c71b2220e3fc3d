"""Runs every action, or a whole run, under Python's own profiler."""

from __future__ import annotations

import cProfile
import io
import os
import pstats
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leyden.messages import shown

from leyden_profilers.reporting import ReportingProfiler

if TYPE_CHECKING:
    from leyden import Trainer

_RUN = "the whole run"


class AdvancedProfiler(ReportingProfiler):
    """Prints which functions each action calls, as ``cProfile`` counts and times them; several times slower than a plain run.

    An action's table leaves out the actions inside it, which have their own.

    Args:
        dirpath: see :class:`ReportingProfiler`.
        filename: see :class:`ReportingProfiler`.
        line_count_restriction: how much of each table is printed: so many lines (int), or a fraction of them (float).
        dump_stats: whether each table is also written to ``<dirpath>/<stage>-<action>.prof``, for ``pstats`` and viewers.
        whole_run: one table for everything from the first ``setup`` to the last ``teardown``, in place of one an action.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``line_count_restriction`` is out of range.
    """

    name = "advanced"

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        line_count_restriction: float = 1.0,
        dump_stats: bool = False,
        whole_run: bool = False,
    ) -> None:
        super().__init__(dirpath, filename)
        owner, restriction = type(self).__name__, line_count_restriction
        if not isinstance(restriction, int | float) or isinstance(restriction, bool):
            raise TypeError(
                f"{owner}(line_count_restriction={restriction!r}): expected a number of lines (int) or a fraction (float), "
                f"got {shown(restriction)}"
            )
        if restriction <= 0 or (isinstance(restriction, float) and restriction > 1.0):
            raise ValueError(
                f"{owner}(line_count_restriction={restriction!r}): expected an int >= 1 (lines) or a float above 0.0 and at "
                f"most 1.0 (a fraction)"
            )
        for argument, value in (("dump_stats", dump_stats), ("whole_run", whole_run)):
            if not isinstance(value, bool):
                raise TypeError(f"{owner}({argument}={value!r}): expected True or False, got {shown(value)}")
        self.line_count_restriction = restriction
        self.dump_stats = dump_stats
        self.whole_run = whole_run
        self.profiles: dict[str, cProfile.Profile] = {}
        """What was measured, by action."""
        self._stack: list[cProfile.Profile] = []
        self._dumps: Path | None = None

    def begin(self, trainer: Trainer) -> None:
        """Forgets the last run."""
        while self._stack:  # a run that failed while nobody was listening
            self._stack.pop().disable()
        self.profiles.clear()
        self._dumps = self.directory(trainer) if self.dump_stats else None
        if self.whole_run:
            self._start(_RUN)

    def end(self, trainer: Trainer) -> None:
        """Stops, and writes the files."""
        if self.whole_run and self._stack:
            self._stop()
        if self._dumps is None:
            return
        self._dumps.mkdir(parents=True, exist_ok=True)
        for action, profile in self.profiles.items():
            name = re.sub(r"[^\w.]+", "_", action).strip("_")
            profile.dump_stats(self._dumps / f"{self.own_name(trainer, f'{self.stage}-{name}')}.prof")

    def measure(self, action: str) -> AbstractContextManager[Any]:
        """Returns a context in which functions are counted and timed."""
        return self._measured(action)

    @contextmanager
    def _measured(self, action: str) -> Iterator[None]:
        if self.whole_run:
            yield
            return
        self._start(action)
        try:
            yield
        finally:
            self._stop()

    def _start(self, action: str) -> None:
        # Python has one profiler at a time: that of the action around this one waits.
        if self._stack:
            self._stack[-1].disable()
        profile = self.profiles.setdefault(action, cProfile.Profile())
        self._stack.append(profile)
        profile.enable()

    def _stop(self) -> None:
        self._stack.pop().disable()
        if self._stack:
            self._stack[-1].enable()

    def summary(self) -> str:
        """The table of each action."""
        parts = []
        for action, profile in self.profiles.items():
            profile.create_stats()
            if not getattr(profile, "stats", None):
                continue  # pstats refuses to read nothing
            text = io.StringIO()
            pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(self.line_count_restriction)
            parts.append(f"{self.stage or 'profile'}: {action}\n{text.getvalue().strip()}")
        return "\n\n".join(parts)
