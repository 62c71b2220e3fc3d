"""Every message that the strategies say unasked, by its id."""

from __future__ import annotations

IDS: dict[str, str] = {
    "LYS01": "How many processes a run has, and how they were started.",
}
