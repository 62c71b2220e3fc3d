"""A CSV table that is appended to and may gain columns."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from leyden_loggers.appended_file import AppendedFile, Row
from leyden_loggers.hparams_file import write_atomically


class MetricsFile(AppendedFile):
    """One header, one line a record, one column a key; a key that a record lacks leaves its field empty.

    Appending costs as much as the new rows. Only a key that was never seen before copies the file, with one more column, to
    a new one that then takes its place. Between two calls the file is closed and whole.

    Args:
        path: the file; if it exists, it is continued and its columns are kept.
    """

    def __init__(self, path: Path) -> None:
        self.columns: list[str] = []
        super().__init__(path)

    def _continue(self) -> bool:
        with self.path.open("rb") as file:
            self.columns = next(csv.reader(line.decode() for line in file), [])
        return bool(self.columns)

    def _prepare(self, rows: Sequence[Row]) -> None:
        columns = list(dict.fromkeys([*self.columns, *(key for row in rows for key in row)]))
        if not self._exists:
            write_atomically(self.path, _csv(columns))
        elif columns != self.columns:
            self._widen(columns)
        self.columns = columns

    def _head(self) -> bytes:
        return _csv(self.columns)

    def _line(self, row: Row) -> bytes:
        return _csv([_field(row.get(column)) for column in self.columns])

    def _step(self, line: bytes) -> float | None:
        if "step" not in self.columns:
            return None
        column, fields = self.columns.index("step"), next(csv.reader([line.decode()]), [])
        return float(fields[column]) if len(fields) > column and fields[column] else None

    def _lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            reader = csv.reader(line.decode() for line in file)
            next(reader, None)  # a quoted key may hold a line break; the reader knows where the header ends
            yield from file

    def _widen(self, columns: list[str]) -> None:
        empty = b"," * (len(columns) - len(self.columns)) + b"\n"
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(_csv(columns))
                file.writelines(line.rstrip(b"\r\n") + empty for line in self._lines())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _field(value: float | None) -> str:
    return "" if value is None else repr(value)


def _csv(fields: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
