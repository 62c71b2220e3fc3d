"""A CSV table that is appended to and may gain columns."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from leyden.messages import warn

from leyden_loggers.hparams_file import write_atomically
from leyden_loggers.run_directory import refusing

Row = Mapping[str, int | float]


class MetricsFile:
    """One header, one line a record, one column a key; a key that a record lacks leaves its field empty.

    Appending costs as much as the new rows. Only a key that was never seen before copies the file, with one more column, to
    a new one that then takes its place. Between two calls the file is closed and whole.

    Args:
        path: the file; if it exists, it is continued and its columns are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.count = 0
        """How many rows it has."""
        self._exists = False
        if path.exists():
            with refusing(path):
                self._drop_unfinished_line()
                self.columns = self._read_columns()
                self.count = sum(1 for _ in self._body()) if self.columns else 0
            self._exists = bool(self.columns)

    def append(self, rows: Sequence[Row]) -> None:
        """Writes ``rows`` at the end.

        Raises:
            OSError: they cannot be written, or not all; then none is. The message has the path.
        """
        if self._exists and not self.path.exists():
            warn(
                "LYL01",
                f"{str(self.path)!r} was deleted while the run wrote to it; it was made again and has only what is logged "
                f"from now on",
            )
            self._exists, self.count = False, 0
        columns = list(dict.fromkeys([*self.columns, *(key for row in rows for key in row)]))
        with refusing(self.path):
            if not self._exists:
                write_atomically(self.path, _line(columns))
            elif columns != self.columns:
                self._widen(columns)
            self.columns, self._exists = columns, True
            self._add(b"".join(_line([_field(row.get(column)) for column in columns]) for row in rows))
            self.count += len(rows)

    def _add(self, data: bytes) -> None:
        with self.path.open("r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                written = 0
                while written < len(data):
                    written += file.write(data[written:])
            except BaseException:
                file.truncate(size)  # a full disk takes a part; the rows are written again with the next ones
                raise

    def cut(self, step: int) -> int:
        """Takes out the rows whose ``step`` is ``step`` or more; returns how many there were."""
        if "step" not in self.columns:
            return 0
        column = self.columns.index("step")

        def stays(line: bytes) -> bool:
            fields = next(csv.reader([line.decode()]), [])
            return len(fields) <= column or not fields[column] or float(fields[column]) < step

        with refusing(self.path):
            return self._keep([line for line in self._body() if stays(line)])

    def cut_after(self, count: int) -> int:
        """Takes out all rows but the first ``count``; returns how many there were."""
        with refusing(self.path):
            return self._keep(list(self._body())[:count])

    def _keep(self, lines: list[bytes]) -> int:
        cut = self.count - len(lines)
        if cut:
            write_atomically(self.path, _line(self.columns) + b"".join(lines))
            self.count = len(lines)
        return cut

    def _widen(self, columns: list[str]) -> None:
        empty = b"," * (len(columns) - len(self.columns)) + b"\n"
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(_line(columns))
                file.writelines(line.rstrip(b"\r\n") + empty for line in self._body())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _body(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            reader = csv.reader(line.decode() for line in file)
            next(reader, None)  # a quoted key may hold a line break; the reader knows where the header ends
            yield from file

    def _read_columns(self) -> list[str]:
        with self.path.open("rb") as file:
            return next(csv.reader(line.decode() for line in file), [])

    def _drop_unfinished_line(self) -> None:
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return
            file.seek(size - 1)
            if file.read() == b"\n":
                return
            file.seek(0)
            end = file.read().rfind(b"\n") + 1
            file.truncate(end)
        # Kept, its last number might lack digits.
        warn(
            "LYL02", f"{str(self.path)!r} ended in the middle of a row, as after a kill or on a full disk; that row was taken out"
        )


def _field(value: float | None) -> str:
    return "" if value is None else repr(value)


def _line(fields: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
