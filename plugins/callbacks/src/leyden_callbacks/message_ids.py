"""Every message that the callbacks say unasked, by its id."""

from __future__ import annotations

IDS: dict[str, str] = {
    "LYC01": "The name of a checkpoint asks for a value that was not logged.",
    "LYC03": "A checkpoint could not be written, and training goes on.",
    "LYC02": "Early stopping monitors a value that nothing logs.",
    "LYC04": "A callback is to act after validations, and the run has none.",
}
