"""Writes the numbers of a run as JSON, one record a line."""

from __future__ import annotations

from typing import Any

from leyden_loggers.appended_file import Row
from leyden_loggers.file_logger import FileLogger
from leyden_loggers.json_lines_file import JSONLinesFile
from leyden_loggers.records import Record


class JSONLinesLogger(FileLogger):
    """``"jsonl"``: one JSON object a record in ``metrics.jsonl``, and ``hparams.yaml``; no client is needed.

    An object has ``step``, ``time`` (seconds since 1970), ``batch`` and ``samples`` where they are known, and the keys of its
    record only; a metric of one of these names takes its place. NaN and infinities are strings, as JSON has none.
    ``experiment`` is the :class:`JSONLinesFile`. For arguments and errors see :class:`FileLogger`.
    """

    position_key = "jsonl"
    file_name = "metrics.jsonl"
    file_class = JSONLinesFile

    def _row(self, record: Record) -> Row:
        where: dict[str, Any] = {"step": record.step, "time": record.time, "batch": record.batch, "samples": record.samples}
        return {key: value for key, value in {**where, **record.values}.items() if value is not None}
