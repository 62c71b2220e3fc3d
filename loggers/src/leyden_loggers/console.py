"""Prints the numbers of a run."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, TextIO

from leyden.messages import quoted, shown

from leyden_loggers.hparams_file import flattened, readable
from leyden_loggers.patterns import Patterns
from leyden_loggers.records import NoExperiment, Record, RecordLogger, as_float

STREAMS = ("stdout", "stderr")


class ConsoleLogger(RecordLogger):
    """``"console"``: one line a record on the terminal, and one for the hyperparameters.

    A line is ``step 49  epoch 0  train_loss 0.6931``. It is written at once. Characters that would end it or that the stream has
    not are written as in ``\\n``.

    Args:
        stream: ``"stdout"``, ``"stderr"`` or an open text file; the first two are looked up when a line is printed.
        keys: patterns such as ``"val/*"`` of the keys to print, in place of all; records without any are left out.
        digits: significant digits of a number.
        prefix: put before each key.
        times: whether each line begins with the time of its record, such as ``2026-03-01 14:05:09``.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: ``stream`` is another word, or ``digits`` is below 1.
    """

    seconds_between_writes: ClassVar[float] = 0.0

    def __init__(
        self,
        stream: str | TextIO = "stdout",
        keys: Sequence[str] | None = None,
        digits: int = 4,
        prefix: str = "",
        times: bool = False,
    ) -> None:
        super().__init__(prefix)
        if isinstance(stream, str) and stream not in STREAMS:
            raise ValueError(f"ConsoleLogger(stream={quoted(stream)}): expected 'stdout', 'stderr' or an open text file")
        binary = isinstance(stream, io.RawIOBase | io.BufferedIOBase)
        if not isinstance(stream, str) and (binary or not callable(getattr(stream, "write", None))):
            raise TypeError(
                f"ConsoleLogger(stream={quoted(stream)}): expected 'stdout', 'stderr' or an open text file, got {shown(stream)}"
            )
        self._patterns = Patterns("ConsoleLogger", keys)
        if isinstance(digits, bool) or not isinstance(digits, int) or digits < 1:
            raise ValueError(f"ConsoleLogger(digits={quoted(digits)}): expected an int >= 1, got {shown(digits)}")
        if not isinstance(times, bool):
            raise TypeError(f"ConsoleLogger(times={quoted(times)}): expected True or False, got {shown(times)}")
        self.times = times
        self.stream = stream
        self.keys = self._patterns.keys
        self.digits = digits
        self._printed: dict[str, Any] = {}

    @property
    def experiment(self) -> Any:
        """The stream; on ranks other than 0 an object that ignores every call."""
        if not self._writes:
            return NoExperiment()
        self._write_waiting()
        return self._stream()

    def _stream(self) -> TextIO:
        return self.stream if not isinstance(self.stream, str) else sys.stdout if self.stream == "stdout" else sys.stderr

    def _write(self, records: Sequence[Record]) -> None:
        for record in records:
            epoch = record.values.get("epoch")
            shown = [(key, value) for key, value in record.values.items() if key != "epoch" and self._patterns.match(key)]
            if shown:
                time = f"{datetime.fromtimestamp(record.time):%Y-%m-%d %H:%M:%S}  " if self.times else ""
                place = f"{time}step {record.step}" + (f"  epoch {epoch}" if epoch is not None else "")
                self._print(place, *(f"{key} {as_float(value):.{self.digits}g}" for key, value in shown))

    def _print(self, *parts: str) -> None:
        line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in "  ".join(parts))
        stream = self._stream()
        try:
            stream.write(f"{line}\n")
        except UnicodeEncodeError:  # a terminal or a file of another encoding
            encoding = stream.encoding
            stream.write(f"{line.encode(encoding, 'backslashreplace').decode(encoding)}\n")
        flush = getattr(stream, "flush", None)
        if flush is not None:
            flush()

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, metrics: Mapping[str, float] | None = None) -> None:
        """Prints the hyperparameters, once as long as they do not change; nested ones as in ``model/depth``."""
        flat = dict(flattened(readable(params)))
        if self._writes and flat and flat != self._printed:
            self._printed = flat
            self._print("hyperparameters", *(f"{key} {value}" for key, value in flat.items()))
