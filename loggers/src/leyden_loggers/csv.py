"""Writes the numbers of a run into a CSV table."""

from __future__ import annotations

from leyden_loggers.appended_file import Row
from leyden_loggers.file_logger import FileLogger
from leyden_loggers.metrics_file import MetricsFile
from leyden_loggers.records import Record


class CSVLogger(FileLogger):
    """``"csv"``: one row a record in ``metrics.csv``, and ``hparams.yaml``; no client is needed.

    The columns are ``step``, ``time`` (seconds since 1970) and the keys in the order in which they first came; a metric called
    ``time`` takes the place of that one, and a key that a record lacks is an empty field.
    ``experiment`` is the :class:`MetricsFile`. For arguments and errors see :class:`FileLogger`.
    """

    position_key = "csv"
    file_name = "metrics.csv"
    file_class = MetricsFile

    def _row(self, record: Record) -> Row:
        return {"step": record.step, "time": record.time, **record.values}
