"""The callbacks of a Trainer that was given none of their kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leyden import hookimpl

if TYPE_CHECKING:
    from leyden import Trainer


@hookimpl
def default_callbacks(trainer: Trainer) -> list[Any]:
    """Returns a progress bar, a model summary and a checkpoint callback, save those switched off or there already.

    Raises:
        ValueError: two progress bars or two summaries were given.
    """
    if trainer.barebones:
        return []
    roles = [getattr(callback, "role", "") for callback in trainer.callbacks]
    for role, what in (("progress_bar", "progress bars"), ("model_summary", "model summaries")):
        if roles.count(role) > 1:
            names = [type(callback).__qualname__ for callback in trainer.callbacks if getattr(callback, "role", "") == role]
            raise ValueError(f"callbacks has {len(names)} {what}, {' and '.join(names)}; they would tear each other: give one")
    found: list[Any] = []
    # Imported where wanted: a run without a bar need not load tqdm.
    if trainer.enable_progress_bar is not False and "progress_bar" not in roles:
        from leyden_callbacks.progress import progress_bar

        found.append(progress_bar())
    if trainer.enable_model_summary is not False and "model_summary" not in roles:
        from leyden_callbacks.model_summary import ModelSummary

        found.append(ModelSummary())
    if trainer.enable_checkpointing is not False and "checkpointing" not in roles and not trainer.fast_dev_run:
        from leyden_callbacks.checkpoint import ModelCheckpoint

        found.append(ModelCheckpoint())
    return found
