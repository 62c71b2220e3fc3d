"""What all loggers have in common: plain numbers under prefixed keys, on rank 0, written together where they come fast."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from leyden import Logger, hookimpl
from leyden.messages import quoted, shown

if TYPE_CHECKING:
    from leyden import Trainer

Number = int | float


@dataclass(frozen=True)
class Record:
    """The numbers of one log point."""

    step: int
    values: dict[str, Number]
    """By prefixed key."""

    time: float
    """Seconds since 1970."""

    batch: int | None = None
    """Batches of the epoch that were done; None outside of a Trainer."""

    samples: int | None = None
    """Samples of the batches done in all epochs; None where nobody counted them."""


class RecordLogger(Logger):
    """Turns what it is handed into :class:`Record` objects; subclasses write these.

    A record that comes within :attr:`seconds_between_writes` of the last write waits for the next one. What waits is written
    at the end of an epoch, before a checkpoint, on :meth:`save` and ``finalize``, and when somebody asks for ``experiment``:
    a killed process loses the records of that time at most, and none that a checkpoint is ahead of.

    Args:
        prefix: put before each key, as in ``prefix-loss``.

    Raises:
        TypeError: ``prefix`` is no str.
    """

    group_separator = "/"
    """What parts of a key are joined with by those who make keys for this logger."""

    seconds_between_writes: ClassVar[float] = 1.0

    position_key: ClassVar[str] = ""
    """Under which the checkpoint's ``leyden`` keeps where the records of such a logger end."""

    def __init__(self, prefix: str = "") -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"{type(self).__name__}(prefix={quoted(prefix)}): expected a str, got {shown(prefix)}")
        self.prefix = prefix
        self._trainer: Trainer | None = None
        self._resumes = False
        self._waiting: list[Record] = []
        self._last_write = float("-inf")
        self._saved_position: Mapping[str, Any] | None = None

    def connect(self, trainer: Trainer) -> None:
        """Takes the place to write to from ``trainer``; opens and creates nothing."""
        self._trainer = trainer

    @property
    def _writes(self) -> bool:
        return self._trainer is None or self._trainer.is_global_zero

    # ---- what subclasses do ----

    def _write(self, records: Sequence[Record]) -> None:
        """Writes ``records``, all or, where it raises, none."""

    def _open(self) -> None:
        """Opens what records are written to, so that it is known before the first step that it can be."""

    def _position(self) -> dict[str, Any] | None:
        """Where the run's records end, for :meth:`rewind` of a run that goes on from a checkpoint of now."""
        return None

    def rewind(self, step: int, position: Mapping[str, Any] | None = None) -> None:
        """Takes back records of this run from ``step`` on, because a checkpoint from before them is continued.

        Args:
            step: the index of the first step that is going to be done again.
            position: what the checkpoint has of such a logger, if anything.
        """

    # ---- records ----

    def record(self, metrics: Mapping[str, Any], step: int) -> tuple[dict[str, Number], int]:
        """``metrics`` as plain numbers under their prefixed keys, and their step; NaN and infinities are kept.

        A metric named ``step`` is the step, in place of the argument.

        Raises:
            TypeError: a value is not one number.
            ValueError: the step is not finite.
        """
        numbers = {_encodable(key): _number(key, value) for key, value in metrics.items()}
        found = numbers.pop("step", None)
        found = _number("step", step) if found is None else found
        if isinstance(found, float) and not math.isfinite(found):
            raise ValueError(f"log_metrics({{'step': {found}}}): the step is no whole number")
        return {f"{self.prefix}-{key}" if self.prefix else key: value for key, value in numbers.items()}, int(found)

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Takes one record, as :meth:`leyden.Logger.log_metrics` does; a metric named ``step`` stands in for ``step``.

        Raises:
            TypeError: a value is not one number.
            OSError: it cannot be written; the record is kept for the next attempt.
        """
        if not self._writes:
            return
        values, step = self.record(metrics, step)
        progress = self._trainer.progress if self._trainer is not None else None
        self._waiting.append(
            Record(step, values, time.time(), progress.batch, progress.samples or None)
            if progress
            else Record(step, values, time.time())
        )
        if self._due():
            self._write_waiting()

    def _due(self) -> bool:
        return time.monotonic() - self._last_write >= self.seconds_between_writes

    def _write_waiting(self) -> None:
        if self._waiting:
            self._last_write = time.monotonic()
            records, self._waiting = self._waiting, []  # another thread may log meanwhile
            try:
                self._write(records)
            except BaseException:
                self._waiting = records + self._waiting
                raise

    def save(self) -> None:
        """Writes the records that still wait.

        Raises:
            OSError: they cannot be written, and are kept for the next attempt.
        """
        self._write_waiting()

    def finalize(self, status: str) -> None:
        """Writes the records that still wait."""
        self._write_waiting()

    # ---- hooks ----

    # Only a fit that really continues from a checkpoint logs steps again, and is refused before it does if the checkpoint
    # does not fit: so a checkpoint is noted when it is read, and acted on when training starts.

    @hookimpl(specname="setup")
    def _note_start(self) -> None:
        self._resumes, self._saved_position = False, None

    @hookimpl(specname="on_save_checkpoint")
    def _note_position(self, checkpoint: dict[str, Any]) -> None:
        """Writes what waits, for a run that goes on from this checkpoint does not log it again, and keeps where that ends."""
        if self._writes:
            self._write_waiting()
            position = self._position()
            if position is not None:
                checkpoint.setdefault("leyden", {})[self.position_key] = position

    @hookimpl(specname="on_load_checkpoint")
    def _note_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._resumes, self._saved_position = True, checkpoint.get("leyden", {}).get(self.position_key)

    @hookimpl(specname="on_train_start")
    def _rewind_to_checkpoint(self, trainer: Trainer) -> None:
        if not self._writes:
            return
        if self._resumes:
            self._write_waiting()
            self.rewind(trainer.global_step, self._saved_position)
        self._open()

    @hookimpl(specname="on_train_epoch_start")
    def _write_the_last_epoch(self) -> None:  # whose own record came after its last hook
        if self._writes:
            self._write_waiting()


def _number(key: str, value: Any) -> Number:
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) else int(value)  # numpy's float64 is a float, with another repr
    readable = callable(getattr(value, "item", None)) and not getattr(value, "is_meta", False)
    if readable and getattr(value, "size", None) is not None:
        size = value.size if isinstance(value.size, int) else value.numel()
        if size == 1:
            return _number(key, value.item())
    raise TypeError(f"log_metrics({{{key!r}: ...}}): expected a number or a tensor of one element, got {shown(value)}")


def _encodable(key: str) -> str:
    """The key, with characters that no file takes (halves of surrogate pairs) written as in ``\\ud800``."""
    return key if key.isascii() else key.encode("utf-8", "backslashreplace").decode()


def as_float(value: Number) -> float:
    """A number as a float; a whole one that is too large for that is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class NoExperiment:
    """Takes any call and does nothing: what ``experiment`` is on ranks other than 0."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None
