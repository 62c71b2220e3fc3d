"""Writes the numbers of a run into a CSV table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from leyden import hookimpl
from leyden.messages import announce, shown

from leyden_loggers.local import LocalLogger, NoExperiment
from leyden_loggers.metrics_file import MetricsFile


class CSVLogger(LocalLogger):
    """``"csv"``: one row a record in ``metrics.csv``, and ``hparams.yaml``; no client is needed.

    The columns are ``step`` and the keys in the order in which they first came; a key that a record lacks is an empty field.
    A later run with the same version appends. Between two writes the file is closed and whole, so that a killed process
    loses the records of one interval at most.

    Args:
        save_dir: see :class:`LocalLogger`, as for ``name``, ``version`` and ``prefix``.
        name: the directory below ``save_dir``.
        version: the run.
        prefix: put before each key.
        flush_every_n_records: how many records are kept in memory before they are written together.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument has a wrong value.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "leyden_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_every_n_records: int = 1,
    ) -> None:
        super().__init__(save_dir, name, version, prefix)
        if isinstance(flush_every_n_records, bool) or not isinstance(flush_every_n_records, int) or flush_every_n_records < 1:
            raise ValueError(
                f"CSVLogger(flush_every_n_records={flush_every_n_records!r}): expected an int >= 1, "
                f"got {shown(flush_every_n_records)}"
            )
        self.flush_every_n_records = flush_every_n_records
        self._rows: list[dict[str, int | float]] = []
        self._file: MetricsFile | None = None
        self._opened = 0

    @property
    def experiment(self) -> Any:
        """The :class:`MetricsFile`, opened on first use; on ranks other than 0 an object that ignores every call."""
        return self._opened_file() if self._writes else NoExperiment()

    def _opened_file(self) -> MetricsFile:
        directory, opened = self.run_directory.open()
        if self._file is None or self._opened != opened:
            self._file, self._opened = MetricsFile(directory / "metrics.csv"), opened
        return self._file

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Takes one record, as :meth:`leyden.Logger.log_metrics` does; a metric named ``step`` stands in for ``step``.

        Raises:
            TypeError: a value is not one number.
            OSError: it cannot be written; the message has the path, and the record is kept for the next attempt.
        """
        if not self._writes:
            return
        record, step = self.record(metrics, step)
        self._rows.append({"step": step, **record})
        if len(self._rows) >= self.flush_every_n_records:
            self.save()

    def save(self) -> None:
        """Writes the records that are still in memory.

        Raises:
            OSError: they cannot be written; the message has the path, and they are kept for the next attempt.
        """
        if self._rows:
            self._opened_file().append(self._rows)
            self._rows = []

    def finalize(self, status: str) -> None:
        """Writes what is left and closes; a later run of this logger appends."""
        self.save()
        self._file = None

    @hookimpl(specname="on_save_checkpoint")
    def _note_position(self, checkpoint: dict[str, Any]) -> None:
        """Keeps in the checkpoint how many records it saw: some of the next one's steps may bear the number of its last."""
        directory = self.run_directory.existing
        if not self._writes or directory is None:
            return
        position = {"directory": directory.name, "records": self._opened_file().count + len(self._rows)}
        checkpoint.setdefault("leyden", {})["csv"] = position

    def rewind(self, step: int, position: Mapping[str, Any] | None = None) -> None:
        """Takes out the rows that came after the checkpoint, in memory and in the file, and says how many.

        These are the rows behind its ``position`` if it was saved in this directory, else those from ``step`` on.
        """
        directory = self.run_directory.existing
        if directory is None or not (directory / "metrics.csv").exists():
            self._rows = [row for row in self._rows if row["step"] < step]
            return
        self.save()
        self._file = None
        file = MetricsFile(directory / "metrics.csv")
        known = position is not None and position.get("directory") == directory.name
        cut = file.cut_after(int(position["records"])) if known and position is not None else file.cut(step)
        if cut:
            announce(
                f"{cut} row(s) from step {step} on were taken out of {str(directory / 'metrics.csv')!r}: the run continues there"
            )
