"""Says something on standard error without tearing a progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leyden.messages import announce

if TYPE_CHECKING:
    from leyden import Trainer


def say(trainer: Trainer, text: str) -> None:
    """Says ``text`` on rank 0, above the bars of the run if it has any."""
    if not trainer.is_global_zero:
        return
    bar: Any = next((callback for callback in trainer.callbacks if getattr(callback, "role", "") == "progress_bar"), None)
    if hasattr(bar, "print"):
        bar.print(f"leyden: {text}")
    else:
        announce(text)
