"""Writes the numbers of a run into a CSV table."""

from __future__ import annotations

from leyden_loggers.file_logger import FileLogger
from leyden_loggers.metrics_file import MetricsFile


class CSVLogger(FileLogger):
    """``"csv"``: one row a record in ``metrics.csv``, and ``hparams.yaml``; no client is needed.

    The columns are ``step`` and the keys in the order in which they first came; a key that a record lacks is an empty field.
    ``experiment`` is the :class:`MetricsFile`. For arguments and errors see :class:`FileLogger`.
    """

    position_key = "csv"
    file_name = "metrics.csv"
    file_class = MetricsFile
