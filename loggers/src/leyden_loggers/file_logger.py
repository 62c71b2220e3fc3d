"""What loggers have in common that write all records of a run into one file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from leyden.messages import announce, quoted, shown

from leyden_loggers.appended_file import AppendedFile, Row
from leyden_loggers.local import LocalLogger
from leyden_loggers.records import NoExperiment, Record


class FileLogger(LocalLogger):
    """Appends records to one file in the run's directory; subclasses say which and what a record is there.

    A later run with the same version appends. Between two writes the file is closed and whole.

    Args:
        save_dir: see :class:`LocalLogger`, as for ``name``, ``version`` and ``prefix``.
        name: the directory below ``save_dir``.
        version: the run.
        prefix: put before each key.
        flush_every_n_records: how many records are kept in memory before they are written together; None writes at once
            those that come a second or more after the last write, and the others with the next.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument has a wrong value.
    """

    file_name: ClassVar[str]
    file_class: ClassVar[type[AppendedFile]]

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "leyden_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_every_n_records: int | None = None,
    ) -> None:
        super().__init__(save_dir, name, version, prefix)
        every = flush_every_n_records
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(
                f"{type(self).__name__}(flush_every_n_records={quoted(every)}): expected an int >= 1 or None, got {shown(every)}"
            )
        self.flush_every_n_records = every
        self._file: AppendedFile | None = None
        self._opened = 0

    @property
    def experiment(self) -> Any:
        """The file, opened on first use; on ranks other than 0 an object that ignores every call."""
        if not self._writes:
            return NoExperiment()
        self._write_waiting()
        return self._opened_file()

    def _opened_file(self) -> AppendedFile:
        directory, opened = self.run_directory.open()
        if self._file is None or self._opened != opened:
            self._file, self._opened = self.file_class(directory / self.file_name), opened
        return self._file

    def _row(self, record: Record) -> Row:
        """What is written of a record, by key; it has a ``step``."""
        return {"step": record.step, **record.values}

    def _due(self) -> bool:
        every = self.flush_every_n_records
        return super()._due() if every is None else len(self._waiting) >= every

    def _write(self, records: Sequence[Record]) -> None:
        self._opened_file().append([self._row(record) for record in records])

    def finalize(self, status: str) -> None:
        """Writes what is left and closes; a later run of this logger appends."""
        self.save()
        self._file = None

    def _position(self) -> dict[str, Any] | None:
        # Some records of the next steps may bear the number of the last step before the checkpoint.
        directory = self.run_directory.existing
        return None if directory is None else {"directory": directory.name, "records": self._opened_file().count}

    def rewind(self, step: int, position: Mapping[str, Any] | None = None) -> None:
        """Takes out the records that came after the checkpoint, and says how many.

        These are the ones behind its ``position`` if it was saved in this directory, else those from ``step`` on.
        """
        directory = self.run_directory.existing
        if directory is None or not (directory / self.file_name).exists():
            return
        self._file = None
        file = self.file_class(directory / self.file_name)
        known = position is not None and position.get("directory") == directory.name
        cut = file.cut_after(int(position["records"])) if known and position is not None else file.cut(step)
        if cut:
            announce(f"{cut} row(s) from step {step} on were taken out of {str(file.path)!r}: the run continues there")
