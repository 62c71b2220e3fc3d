"""Traces a few steps with torch's profiler, phase by phase and operation by operation, on the CPU and on devices."""

from __future__ import annotations

import glob
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from leyden.messages import announce, did_you_mean, listed, shown, table
from torch.profiler import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)

from leyden_profilers.reporting import ReportingProfiler

if TYPE_CHECKING:
    from leyden import Trainer

T = TypeVar("T")

_FETCHES = {
    "fit": "[Data]train.fetch",
    "validate": "[Data]validation.fetch",
    "test": "[Data]test.fetch",
    "predict": "[Data]predict.fetch",
}


_IDLE = (ProfilerAction.NONE, ProfilerAction.RECORD_AND_SAVE)


class PyTorchProfiler(ReportingProfiler):
    """Writes traces that TensorBoard's PyTorch Profiler page (``torch-tb-profiler``), Perfetto and ``chrome://tracing`` open.

    Steps are those of the stage's own batches. Each phase, hook implementation and ``profile()`` block is a range named after
    its action. A trace is written whenever a cycle of ``wait``, ``warmup`` and ``active`` steps is complete or cut short by the
    end of the run: ``<dirpath>/<worker>.<time>.pt.trace.json``. The last trace's phases and operations are the summary.

    Args:
        dirpath: a local directory for traces and the summary; the run's ``log_dir`` if not given.
        filename: see :class:`ReportingProfiler`.
        wait: steps of each cycle in which nothing is recorded.
        warmup: steps in which what is recorded is thrown away, for the first ones are slow.
        active: steps that are recorded.
        repeat: how many cycles; 0 is as many as the run has.
        skip_first: steps before the first cycle.
        activities: which of ``"cpu"``, ``"cuda"``, ``"xpu"``, ``"mtia"``; all that torch supports here if not given.
        record_shapes: whether the shapes of operations' inputs are recorded.
        profile_memory: whether allocations are recorded.
        with_stack: whether the Python lines that called operations are recorded.
        with_flops: whether floating-point operations of matrix products and convolutions are estimated.
        use_gzip: whether traces are compressed.
        row_limit: how many operations the summary has.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a number is out of range, or there is no such activity here.
    """

    name = "pytorch"

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        wait: int = 1,
        warmup: int = 1,
        active: int = 3,
        repeat: int = 1,
        skip_first: int = 0,
        activities: Sequence[str] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        use_gzip: bool = False,
        row_limit: int = 20,
    ) -> None:
        super().__init__(dirpath, filename)
        numbers = {"wait": wait, "warmup": warmup, "active": active, "repeat": repeat, "skip_first": skip_first}
        for argument, value in {**numbers, "row_limit": row_limit}.items():
            self._check_number(argument, value, least=1 if argument in ("active", "row_limit") else 0)
        self.schedule = numbers
        """The numbers of ``torch.profiler.schedule``."""
        self.activities = _activities(activities)
        self.options: dict[str, Any] = {
            "record_shapes": record_shapes, "profile_memory": profile_memory, "with_stack": with_stack, "with_flops": with_flops,
        }  # fmt: skip
        """Options of ``torch.profiler.profile``."""
        self.use_gzip = use_gzip
        self.row_limit = row_limit
        self.traces: list[Path] = []
        """The files this process wrote in the last run."""
        self._actions: set[str] = set()
        self._profile: profile | None = None
        self._started = False
        self._at_end = False  # whether the last batch of an epoch was read
        self._text = ""
        self._traces_in = Path()

    def _check_number(self, argument: str, value: object, least: int) -> None:
        message = f"{type(self).__name__}({argument}={value!r}): expected an int of at least {least}, got {shown(value)}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(message)
        if value < least:
            raise ValueError(message)

    # ---- a run ----

    def begin(self, trainer: Trainer) -> None:
        """Prepares torch's profiler; it starts with the first batch."""
        self._text, self.traces = "", []
        self._started = self._at_end = False
        self._traces_in = self.directory(trainer)
        self._profile = profile(
            activities=self.activities,
            schedule=schedule(**self.schedule),
            on_trace_ready=self._write,
            **self.options,
        )

    def end(self, trainer: Trainer) -> None:
        """Stops; a cycle that was recording is written."""
        if self._profile is None:
            return
        steps = self._profile.step_num + 1 if self._started else 0
        if self._started:
            self._profile.stop()
        self._profile = None
        needed = self.schedule["skip_first"] + self.schedule["wait"] + self.schedule["warmup"] + 1
        if not self.traces and trainer.is_global_zero:
            announce(
                f"{type(self).__name__} recorded nothing: {self.stage} took {steps} step(s), and it records from step {needed} "
                f"on; lower wait, warmup or skip_first"
            )
        elif trainer.is_global_zero:
            announce(f"{len(self.traces)} trace(s) written to {self._traces_in}")

    def _write(self, running: profile) -> None:
        worker = f"{socket.gethostname()}_{os.getpid()}"
        own = f"{glob.escape(worker)}.*.pt.trace.json*"  # other processes write there too
        before = set(self._traces_in.glob(own))
        tensorboard_trace_handler(str(self._traces_in), worker, use_gzip=self.use_gzip)(running)
        self.traces += set(self._traces_in.glob(own)) - before
        self._text = self._tables(running)

    def measure(self, action: str) -> AbstractContextManager[Any]:
        """Returns a context that is a range in the trace."""
        self._actions.add(action)
        return record_function(action)

    def wrap_iterator(self, iterator: Iterator[T], action: str) -> Iterator[T]:
        """As the base class's; also begins a step with each batch of the stage's own."""
        fetching = super().wrap_iterator(iterator, action)
        if action != _FETCHES.get(self.stage or ""):
            return fetching

        def batch() -> Any:
            if self._at_end:
                self._at_end = False  # what follows the last batch belongs to its step
            else:
                self._step()
            pair: Any = next(fetching)
            self._at_end = pair[1]
            return pair

        return iter(batch, object())

    def _step(self) -> None:
        if self._profile is None:
            return
        running = self._profile
        if not self._started:
            self._started = True
            running.start()
            return
        following = running.schedule(running.step_num + 1)
        begins = running.current_action in _IDLE and following is not ProfilerAction.NONE
        self._profile = None  # one that failed, for instance to write a trace, cannot be stopped: torch crashes
        with _no_word_about_cycles() if begins else nullcontext():
            running.step()
        self._profile = running

    # ---- the report ----

    def summary(self) -> str:
        """The phases and the operations of the last trace."""
        return self._text

    def _tables(self, running: profile) -> str:
        averages = running.key_averages()
        on_device = any(average.device_time_total for average in averages)
        ranges = sorted((a for a in averages if a.key in self._actions), key=lambda average: -average.cpu_time_total)
        header = [self.stage or "action", "calls", "cpu ms", "mean us"] + (["device ms"] if on_device else [])
        rows = [
            [a.key, str(a.count), f"{a.cpu_time_total / 1e3:.3f}", f"{a.cpu_time_total / a.count:.1f}"]
            + ([f"{a.device_time_total / 1e3:.3f}"] if on_device else [])
            for a in ranges
        ]
        operations = averages.table(
            sort_by="self_device_time_total" if on_device else "self_cpu_time_total", row_limit=self.row_limit
        )
        return f"{table(rows, header)}\n\n{operations.strip()}"


@contextmanager
def _no_word_about_cycles() -> Iterator[None]:
    # torch says once that a cycle's events are gone when the next begins; they are in the trace by then.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Profiler clears events", UserWarning)
        yield


def _activities(chosen: Sequence[str] | None) -> list[ProfilerActivity]:
    here = {activity.name.lower(): activity for activity in supported_activities()}  # type: ignore[no-untyped-call]  # torch has no types here
    if chosen is None:
        return list(here.values())
    if isinstance(chosen, str) or not chosen:
        raise TypeError(f"PyTorchProfiler(activities={chosen!r}): expected a list such as ['cpu'], got {shown(chosen)}")
    for name in chosen:
        if name not in here:
            raise ValueError(
                f"PyTorchProfiler(activities={chosen!r}): this torch cannot record {name!r} here"
                f"{did_you_mean(str(name), here)}; it can record {listed(sorted(here))}"
            )
    return [here[name] for name in chosen]
