"""A file of one JSON object a line."""

from __future__ import annotations

import json
import math
from typing import Any

from leyden_loggers.appended_file import AppendedFile, Row


class JSONLinesFile(AppendedFile):
    """One JSON object a line; numbers that JSON does not have are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

    Args:
        path: the file; if it exists, it is continued.
    """

    def _line(self, row: Row) -> bytes:
        return json.dumps({key: json_number(value) for key, value in row.items()}, allow_nan=False).encode() + b"\n"

    def _step(self, line: bytes) -> float | None:
        try:
            step = json.loads(line)["step"]
        except (ValueError, LookupError, TypeError):
            return None  # somebody else's line
        return step if isinstance(step, int | float) else None


def json_number(value: float | None) -> Any:
    """A number as JSON has it; the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` stand for those that it has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
