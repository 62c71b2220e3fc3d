"""Records which share of a training step is spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from leyden import Callback, Profiler

from leyden_callbacks.arguments import check_int, check_number
from leyden_callbacks.log_points import LogPoints
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer

T = TypeVar("T")

_FETCH = "[Data]train.fetch"


class DataStall(Callback):
    """Records ``data_stall/share``, the share of the time between two log points in which training waited for a batch, and
    ``data_stall/seconds_per_batch``.

    Validation is left out. A share that stays high means that the loader is too slow for the model: more ``num_workers``, or less
    work for each sample.

    Args:
        warn_above: a share above which it is said on standard error, once a run; 1 never says it.
        warmup: batches at the start of each run that are not counted: workers start in the first.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "data_stall"

    def __init__(self, warn_above: float = 0.5, warmup: int = 1) -> None:
        owner = type(self).__name__
        check_number(owner, "warn_above", warn_above, 0)
        check_int(owner, "warmup", warmup, 0)
        if warn_above > 1:
            raise ValueError(f"{owner}(warn_above={warn_above!r}): expected a share from 0 to 1")
        self.warn_above = warn_above
        self.warmup = warmup
        self._profiler: Profiler | None = None
        self._log_points = LogPoints()
        self._start(0)

    def _start(self, batches: int) -> None:
        self.waited = 0.0
        """Seconds of waiting since the last log point."""
        self.batches = batches
        """Batches since then; negative in the warm-up."""
        self._since = time.perf_counter()
        self._beside = 0.0  # seconds of validation since then
        self._validation_began: float | None = None

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Takes the time of every read from here on."""
        self._warned = False
        self._log_points.start(trainer)
        self._profiler = trainer.profiler
        trainer.profiler = _Watch(trainer.profiler, self)
        self._start(-self.warmup)

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the batch; records at log points."""
        self.batches += 1
        if self.batches == 0:
            self._start(0)
        if not self._log_points.is_reached(trainer) or self.batches <= 0:
            return
        share, each = self.share, self.waited / self.batches
        module.log_dict(
            {"data_stall/share": share, "data_stall/seconds_per_batch": each}, on_step=True, on_epoch=False, batch_size=1
        )
        if share > self.warn_above and not self._warned and self.batches > 1:
            self._warned = True
            say(
                trainer,
                f"{share:.0%} of the last {self.batches} batches was waiting for data, {each * 1e3:.1f} ms a batch; give "
                f"the DataLoader more num_workers, or do less for each sample",
            )
        self._start(0)

    @property
    def share(self) -> float:
        """The share of waiting since the last log point, from 0 to 1."""
        seconds = time.perf_counter() - self._since - self._beside
        return min(1.0, self.waited / seconds) if seconds > 0 else 0.0

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """The clock stands still."""
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """The clock goes on."""
        if self._validation_began is not None:
            self._beside += time.perf_counter() - self._validation_began
            self._validation_began = None

    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Lets go of the profiler."""
        self._put_back(trainer)

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Also when training failed."""
        self._put_back(trainer)

    def _put_back(self, trainer: Trainer) -> None:
        if self._profiler is not None:
            trainer.profiler, self._profiler = self._profiler, None


class _Watch(Profiler):
    """The profiler of the run, with a clock around the reading of training batches."""

    def __init__(self, inner: Profiler, owner: DataStall) -> None:
        self.inner = inner
        self.owner = owner

    def wrap(self, function: Callable[..., Any], action: str) -> Callable[..., Any]:
        return self.inner.wrap(function, action)

    def wrap_iterator(self, iterator: Iterator[T], action: str) -> Iterator[T]:
        reading = self.inner.wrap_iterator(iterator, action)
        return self._timed(reading) if action == _FETCH else reading

    def _timed(self, reading: Iterator[T]) -> Iterator[T]:
        owner, clock = self.owner, time.perf_counter
        while True:
            start = clock()
            try:
                item = next(reading)
            except StopIteration:
                return
            owner.waited += clock() - start
            yield item
            del item  # freed before the next one is read

    def profile(self, action: str) -> AbstractContextManager[Any]:
        return self.inner.profile(action)

    def summary(self) -> str:
        return self.inner.summary()
