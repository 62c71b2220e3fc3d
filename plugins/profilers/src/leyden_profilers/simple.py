"""Counts and times every action of a run, and tells the work of a training step from what surrounds it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from leyden.messages import table

from leyden_profilers.reporting import ReportingProfiler

if TYPE_CHECKING:
    from leyden import Trainer

T = TypeVar("T")

_FETCH = "[Data]train.fetch"
_VALIDATION = "[Loop]validation"
_STEP_FUNCTIONS = ("training_step", "validation_step", "test_step", "predict_step")


class Record:
    """What is known of one action; times are in seconds."""

    __slots__ = ("action", "calls", "in_steps", "kind", "own_in_steps", "running", "running_own", "total")

    def __init__(self, action: str) -> None:
        self.action = action
        self.kind = _kind(action)
        self.clear()

    def clear(self) -> None:
        """Starts at zero."""
        self.calls = 0
        self.total = 0.0
        """Time inside it."""
        self.in_steps = 0.0
        """Of that, in training steps that are complete."""
        self.own_in_steps = 0.0
        """Of that, in no other action inside it."""
        self.running = self.running_own = 0.0  # the same two for the step that is not complete yet


def _kind(action: str) -> str:
    owner, _, what = action.partition("]")
    if owner in ("[Data", "[Step") or (owner == "[Module" and what.rpartition(".")[2] in _STEP_FUNCTIONS):
        return "bare"
    if owner in ("[Plugin", "[Datamodule", "[Callback", "[Module", "[Component"):
        return "hooks"
    return "logging" if owner == "[Log" else "own"


class SimpleProfiler(ReportingProfiler):
    """Prints a table of all actions: calls, total, mean, and the share of the training steps.

    A second table has a line for everybody on the bus: each callback, logger and plug-in, and the module, with all of its hooks.
    Below it stands what a training step is made of: the bare step, which a loop written by hand has too, and beside it hooks,
    logging and the framework itself. Times are those of this process: what a device does meanwhile is not seen; see
    :class:`leyden_profilers.PyTorchProfiler`.

    Args:
        dirpath: see :class:`ReportingProfiler`.
        filename: see :class:`ReportingProfiler`.
    """

    name = "simple"

    def __init__(self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None) -> None:
        super().__init__(dirpath, filename)
        self.records: dict[str, Record] = {}
        """What was measured, by action, in the order in which actions became known."""
        self._cost = 0.0  # of measuring one action
        self._inner: list[float] = []  # for each action on the stack, the time in actions inside it
        self._forget()

    def begin(self, trainer: Trainer) -> None:
        """Forgets the last run."""
        self._forget()

    def end(self, trainer: Trainer) -> None:
        """Finds out what measuring cost."""
        self._cost = self._measure_cost()

    def _forget(self) -> None:
        for record in self.records.values():
            record.clear()
        self.steps = 0
        """Training steps from the beginning of one batch to that of the next."""
        self.step_time = 0.0
        """Their time together, in seconds, without validation."""
        self.step_calls = 0
        """Actions in them that were in no other action."""
        self._running_calls = 0
        self._since: float | None = None  # when the running step began
        self._paused = 0.0  # time of the running step that is not its own

    def wrap(self, function: Callable[..., Any], action: str) -> Callable[..., Any]:
        """Returns a function that does what ``function`` does and is timed as ``action``."""
        timed = self._timed(function, self._record(action))
        return self._beside_steps(timed) if action == _VALIDATION else timed

    def profile(self, action: str) -> AbstractContextManager[Any]:
        """Times a ``with`` block of the user's as ``action``."""
        return self._block(self._record(action))

    def _record(self, action: str) -> Record:
        return self.records.setdefault(action, Record(action))

    def _timed(self, function: Callable[..., Any], record: Record) -> Callable[..., Any]:
        clock, inner, leave = time.perf_counter, self._inner, self._leave

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            inner.append(0.0)
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                leave(record, clock() - start)

        return timed

    @contextmanager
    def _block(self, record: Record) -> Iterator[None]:
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._leave(record, time.perf_counter() - start)

    def _leave(self, record: Record, elapsed: float) -> None:
        inner = self._inner
        record.calls += 1
        record.total += elapsed
        record.running += elapsed
        record.running_own += elapsed - inner.pop()
        if inner:
            inner[-1] += elapsed
        else:
            self._running_calls += 1

    # ---- steps ----

    def wrap_iterator(self, iterator: Iterator[T], action: str) -> Iterator[T]:
        """As the base class's; also takes the time from the beginning of each training batch to that of the next."""
        fetching = super().wrap_iterator(iterator, action)
        if action != _FETCH:
            return fetching
        self._since = None  # what lies between two epochs belongs to no step

        def batch() -> T:
            self._next_step()
            return next(fetching)

        return iter(batch, object())

    def _next_step(self) -> None:
        now = time.perf_counter()
        complete = self._since is not None
        if self._since is not None:
            self.steps += 1
            self.step_time += now - self._since - self._paused
            self.step_calls += self._running_calls
        for record in self.records.values():
            if complete:
                record.in_steps += record.running
                record.own_in_steps += record.running_own
            record.running = record.running_own = 0.0
        self._running_calls, self._paused = 0, 0.0
        self._since = time.perf_counter()

    def _beside_steps(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What happens inside ``function`` belongs to no training step."""

        @wraps(function)
        def paused(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            before = {action: (record.running, record.running_own) for action, record in self.records.items()}
            calls = self._running_calls
            try:
                return function(*args, **kwargs)
            finally:
                for action, record in self.records.items():
                    record.running, record.running_own = before.get(action, (0.0, 0.0))
                self._running_calls = calls
                self._paused += time.perf_counter() - start

        return paused

    # ---- the report ----

    def summary(self) -> str:
        """The table of actions, longest first, and what a training step is made of."""
        records = sorted((record for record in self.records.values() if record.calls), key=lambda record: -record.total)
        if not records:
            return ""
        rows = [
            [
                record.action,
                str(record.calls),
                f"{record.total * 1e3:.3f}",
                f"{record.total / record.calls * 1e6:.1f}",
                f"{100 * record.in_steps / self.step_time:.1f} %" if record.in_steps else "",
            ]
            for record in records
        ]
        parts = [table(rows, [self.stage or "action", "calls", "total ms", "mean us", "of the steps"])]
        plugins = self._plugins()
        if plugins:
            parts.append(table(plugins, ["hooks of each plug-in", "calls", "total ms", "mean us", "of the steps"]))
        if self.steps:
            parts.append(self._step_summary())
        return "\n\n".join(parts)

    def _plugins(self) -> list[list[str]]:
        """A row for everybody on the bus whose hooks took time, the longest first."""
        totals: dict[str, list[float]] = {}
        for record in self.records.values():
            if record.kind == "hooks" and record.calls:
                owner = record.action.rpartition(".")[0]
                sums = totals.setdefault(owner, [0, 0.0, 0.0])
                for index, value in enumerate((record.calls, record.total, record.in_steps)):
                    sums[index] += value
        return [
            [
                owner,
                str(int(calls)),
                f"{total * 1e3:.3f}",
                f"{total / calls * 1e6:.1f}",
                f"{100 * in_steps / self.step_time:.1f} %" if in_steps else "",
            ]
            for owner, (calls, total, in_steps) in sorted(totals.items(), key=lambda item: -item[1][1])
        ]

    def _step_summary(self) -> str:
        spent: dict[str, float] = {"bare": 0.0, "hooks": 0.0, "logging": 0.0, "own": 0.0}
        for record in self.records.values():
            spent[record.kind] += record.own_in_steps
        rest = self.step_time - sum(spent.values())
        measuring = min(rest, self.step_calls * self._cost)
        rows = {
            "bare step: batch, forward, backward, optimizer": spent["bare"],
            "hooks of the module, callbacks and plug-ins": spent["hooks"],
            "logging": spent["logging"],
            "profile() blocks": spent["own"],
            "the framework itself": rest - measuring,
            "measuring, about": measuring,
            "together": self.step_time,
        }
        cells = [
            [what, f"{seconds / self.steps * 1e6:.1f}", f"{100 * seconds / self.step_time:.1f} %"]
            for what, seconds in rows.items()
            if what != "profile() blocks" or seconds
        ]
        return table(cells, [f"mean of {self.steps} training step(s)", "us", "share"])

    def _measure_cost(self) -> float:
        """What measuring an action adds to the time around it, in seconds."""
        other = SimpleProfiler()
        record = Record("nothing")
        nothing = other._timed(lambda: None, record)
        count = 500
        start = time.perf_counter()
        for _ in range(count):
            nothing()
        return max(0.0, (time.perf_counter() - start - record.total) / count)
