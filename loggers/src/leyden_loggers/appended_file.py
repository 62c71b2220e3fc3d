"""A file of records that is only ever appended to, and cut back where a run goes on from an earlier step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from leyden.messages import warn

from leyden_loggers.hparams_file import write_atomically
from leyden_loggers.run_directory import refusing

Row = Mapping[str, int | float]


class AppendedFile:
    """One line a record. Between two calls the file is closed and whole; subclasses say what a line is.

    Args:
        path: the file; if it exists, it is continued. A line that a kill or a full disk left unfinished is taken out.

    Raises:
        OSError: it cannot be read; the message has the path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        """How many records it has."""
        self._exists = False
        self._size = 0
        """How long it was after the last write of this object."""
        self._is_shared = False
        if path.exists():
            with refusing(path):
                self._drop_unfinished_line()
                self._read()

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
        with refusing(self.path):
            if self._exists and self.path.stat().st_size != self._size:
                self._report_others()
                self._read()  # they may have added columns
            self._prepare(rows)
            self._exists = True
            self._add(b"".join(self._line(row) for row in rows))
            self.count += len(rows)

    def cut(self, step: int) -> int:
        """Takes out the records whose ``step`` is ``step`` or more; returns how many there were."""
        with refusing(self.path):
            return self._keep([line for line in self._lines() if (found := self._step(line)) is None or found < step])

    def cut_after(self, count: int) -> int:
        """Takes out all records but the first ``count``; returns how many there were."""
        with refusing(self.path):
            return self._keep(list(self._lines())[:count])

    def _keep(self, lines: list[bytes]) -> int:
        cut = self.count - len(lines)
        if cut:
            write_atomically(self.path, self._head() + b"".join(lines))
            self.count, self._size = len(lines), self.path.stat().st_size
        return cut

    # ---- what subclasses say ----

    def _continue(self) -> bool:
        """Reads what a file that exists has above its records; returns whether it is more than an empty file."""
        return True

    def _prepare(self, rows: Sequence[Row]) -> None:
        """Makes the file if it does not exist, and ready to be given ``rows``."""
        if not self._exists:
            write_atomically(self.path, b"")

    def _head(self) -> bytes:
        """What stands above the records."""
        return b""

    def _line(self, row: Row) -> bytes:
        """A record as a line."""
        raise NotImplementedError

    def _step(self, line: bytes) -> float | None:
        """The step of a record's line; None if it has none."""
        raise NotImplementedError

    def _lines(self) -> Iterator[bytes]:
        """The records' lines."""
        with self.path.open("rb") as file:
            yield from file

    # ---- the file ----

    def _read(self) -> None:
        self._exists = self._continue()
        self._size = self.path.stat().st_size
        self.count = sum(1 for _ in self._lines()) if self._exists else 0

    def _report_others(self) -> None:
        if not self._is_shared:
            self._is_shared = True
            warn(
                "LYL07",
                f"something else wrote to {str(self.path)!r} while the run did; where that is another run, its records are among "
                f"these: give each run a version of its own",
            )

    def _add(self, data: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:  # so that what another process writes is not written over
            size = file.seek(0, os.SEEK_END)
            try:
                written = 0
                while written < len(data):
                    written += file.write(data[written:])
            except BaseException:
                file.truncate(size)  # a full disk takes a part; the rows are written again with the next ones
                self._size = size
                raise
            self._size = file.tell()

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
            "LYL02",
            f"{str(self.path)!r} ended in the middle of a row, as after a kill or on a full disk; that row was taken out",
        )
