"""The version of the format, and what Lightning's files say in its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leyden.messages import quoted

FORMAT = 1
"""Raised when a file that is written now could be misread by a program that knows the last number only."""


def understood(checkpoint: dict[str, Any], path: object) -> dict[str, Any]:
    """The checkpoint with ``leyden`` filled in where another library wrote it.

    Args:
        checkpoint: as it was read; changed in place.
        path: its file, for messages.

    Raises:
        ValueError: a newer leyden wrote it, in a format that this one does not know.
    """
    own = checkpoint.get("leyden")
    if own is None:
        if "hparams" in checkpoint and "hyper_parameters" not in checkpoint:  # before 0.8
            checkpoint.update(hyper_parameters=checkpoint["hparams"], hparams_name="hparams")
        if "pytorch-lightning_version" in checkpoint or "loops" in checkpoint:
            checkpoint["leyden"] = {"progress": lightning_progress(checkpoint)}
        return checkpoint
    number = own.get("format") if isinstance(own, Mapping) else None
    if not isinstance(number, int):
        raise ValueError(f"{quoted(str(path))} is not a checkpoint of leyden: its key 'leyden' names no format")
    if number > FORMAT:
        raise ValueError(
            f"{quoted(str(path))} has format {number}, written by leyden {own.get('version')}; this leyden reads formats up to "
            f"{FORMAT}: update it"
        )
    return checkpoint


def lightning_progress(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Where a run of Lightning was, in the counters of :class:`leyden.Progress`.

    Lightning's ``epoch`` is that of the epoch in which the file was written, which may be over; ``loops`` says so, since 1.5.
    Its ``global_step`` counts the steps of each optimizer, ours the training steps.
    """
    epoch, steps = int(checkpoint.get("epoch", 0)), int(checkpoint.get("global_step", 0))
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    optimizers = max(1, len(checkpoint.get("optimizer_states", ())))
    progress: dict[str, Any] = {"epoch": epoch, "global_step": steps}
    batches = loop.get("epoch_loop.batch_progress")
    if not batches:
        # Before 1.5 the file says no more; it then was written at an epoch's end and named the next one, or the one that ended.
        return progress
    epochs = loop["epoch_progress"]["current"]
    between = int(epochs["processed"]) == int(epochs["ready"])  # no epoch is running
    progress.update(
        epoch=int(epochs["processed"]),
        batch=0 if between else int(batches["current"]["processed"]),
        total_batches=int(batches["total"]["processed"]),
        global_step=steps // optimizers,
        optimizer_steps=[steps // optimizers] * optimizers,
    )
    return progress
