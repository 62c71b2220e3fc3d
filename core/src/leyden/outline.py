"""Says in a few lines what the running fit will do when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from leyden.callback import Callback
from leyden.data.loaders import INFINITE
from leyden.returned import returned

if TYPE_CHECKING:
    from leyden.trainer import Trainer


def outline(trainer: Trainer) -> str:
    """See :meth:`leyden.Trainer.outline`.

    Raises:
        RuntimeError: no fit is running, or it has not read its loaders yet.
    """
    if trainer.fit_loop is None:
        raise RuntimeError("trainer.outline() is of a running fit, from on_train_start on; trainer.plan(module) needs none")
    lines = [_training(trainer), _validation(trainer), _logging(trainer)]
    for callback in trainer.callbacks:
        text = callback.outline(trainer) if isinstance(callback, Callback) else None
        if text is not None:
            lines.append(returned(text, callback, "outline", str, "a str or None"))
    return "\n".join(lines)


def _training(trainer: Trainer) -> str:
    length, every = trainer.num_training_batches, trainer.accumulate_grad_batches
    epochs = "epochs without end" if trainer.max_epochs == -1 else _count(trainer.max_epochs, "epoch")
    text = f"trains {epochs} of {'batches without a known number' if length == INFINITE else _count(int(length), 'batch')}"
    if every > 1:
        text += f", {every} batches to an optimizer step"
    total = trainer.estimated_stepping_batches
    text += "" if total == INFINITE else f", {_count(int(total), 'optimizer step')} in all"
    if trainer.max_steps != -1 and total == INFINITE:
        text += f", at most {_count(trainer.max_steps, 'optimizer step')}"
    text += "" if trainer.max_time is None else f", for at most {trainer.max_time}"
    if trainer.loaded_checkpoint is None:
        return text
    return f"{text}; goes on after {_count(trainer.global_step, 'optimizer step')}, from {trainer.loaded_checkpoint}"


def _validation(trainer: Trainer) -> str:
    loop = trainer.fit_loop
    assert loop is not None
    if loop.validation is None:
        return "validates never"
    nth = trainer.check_val_every_n_epoch
    if trainer.val_check_seconds is not None:
        when = f"every {timedelta(seconds=trainer.val_check_seconds)}"
    elif trainer.val_check_steps is not None:
        when = _every(trainer.val_check_steps, "optimizer step")
    elif trainer.val_check_samples is not None:
        when = _every(trainer.val_check_samples, "sample")
    elif loop.validate_every == INFINITE:
        when = "at the end of each epoch" if nth in (1, None) else f"at the end of every {nth} epochs"
    else:
        when = _every(int(loop.validate_every), "batch")
        when += " across epochs" if nth is None else "" if nth == 1 else f" in one of {nth} epochs"
    lengths = trainer.num_val_batches
    if INFINITE in lengths:
        return f"validates {when}"
    return f"validates {when}, {_count(int(sum(lengths)), 'batch')}"


def _logging(trainer: Trainer) -> str:
    if trainer.barebones:
        return "logs nothing"
    names = ", ".join(type(logger).__name__ for logger in trainer.loggers) or "the history alone"
    every = trainer.log_every_n_steps
    return f"logs {_every(every, 'optimizer step') + ' and ' if every else ''}at the end of each epoch, to {names}"


def _every(number: int, unit: str) -> str:
    return f"every {unit}" if number == 1 else f"every {_count(number, unit)}"


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 'es' if unit == 'batch' else 's'}"
