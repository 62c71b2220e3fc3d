"""Checks on a user's own model that a run which is killed and resumed is the run that would have been."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from leyden.callback import Callback
from leyden.data.transfer import apply_to_tensors
from leyden.hookspecs import hookimpl

if TYPE_CHECKING:
    from leyden.module import Module
    from leyden.trainer import Trainer

Fit = Callable[[], tuple["Trainer", dict[str, Any]]]
"""Makes a Trainer and the arguments of its ``fit``; called in a process of its own for each run."""


@dataclass
class ResumeReport:
    """What :func:`verify` found; true if the resumed run was the run that would have been."""

    at: int
    """The optimizer step after which the first process was killed."""

    steps: int
    """Optimizer steps in all."""

    differences: list[str] = field(default_factory=list)
    """What differs, the earliest first; empty if nothing does."""

    def __bool__(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        if not self.differences:
            return (
                f"resuming is exact: a run killed after step {self.at} and resumed had the same samples, losses, learning rates, "
                f"records and parameters as one of {self.steps} steps without interruption"
            )
        rest = f"\n(and {len(self.differences) - 1} more)" if len(self.differences) > 1 else ""
        return f"resuming after step {self.at} is not exact: {self.differences[0]}{rest}"


def verify(make_fit: Fit, at: int, steps: int | None = None) -> ResumeReport:
    """Runs ``steps`` optimizer steps, and again ``at`` of them, a kill, and the rest from a checkpoint; compares the two.

    Each run is a process of its own, made by fork, so that it begins as the others do; torch has one thread there. Loggers and
    callbacks that save checkpoints are left out, for the runs are not to leave files.

    Args:
        make_fit: makes the Trainer and the arguments of ``fit``.
        at: after how many optimizer steps to kill the run, at least 1.
        steps: how many to compare; twice as many as ``at``, if not given.

    Raises:
        ValueError: ``at`` or ``steps`` is out of range, or a run ended before so many steps.
        RuntimeError: a run failed, or processes cannot be forked here.
    """
    steps = 2 * at if steps is None else steps
    if at < 1 or steps <= at:
        raise ValueError(f"at={at}, steps={steps}: expected 1 <= at < steps")
    if not hasattr(os, "fork") or (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        raise RuntimeError(
            "verify_resume() forks processes, which this system or a CUDA device already in use does not allow; run "
            "`leyden verify-resume file.py:factory` on Linux, which builds the model in processes of its own"
        )
    with tempfile.TemporaryDirectory(prefix="leyden-verify-") as directory:
        where = Path(directory)
        _process(_run, make_fit, where / "whole.pt", None, None, steps)
        _process(_run, make_fit, where / "first.pt", None, (at, where / "resume.ckpt"), steps, killed=True)
        _process(_run, make_fit, where / "second.pt", where / "resume.ckpt", None, steps)
        # Written by the processes above and by nobody else.
        whole, second = (torch.load(where / name, weights_only=True) for name in ("whole.pt", "second.pt"))
    return ResumeReport(at, steps, _differences(whole, second, at))


def _process(function: Callable[..., None], *args: Any, killed: bool = False) -> None:
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode != (-signal.SIGKILL if killed else 0):
        what = "ended before it was to be killed" if killed else f"failed with exit code {process.exitcode}"
        raise RuntimeError(f"a run of verify_resume {what}; its output says why. Does it train for as many steps?")


def _run(make_fit: Fit, result: Path, ckpt_path: Path | None, kill: tuple[int, Path] | None, steps: int) -> None:
    torch.set_num_threads(1)  # a fork has none of its parent's OpenMP threads, and would wait for them for ever
    trainer, arguments = make_fit()
    watch = _Watch(kill)
    trainer.loggers = []
    trainer.default_root_dir = str(result.parent)
    trainer.callbacks = [c for c in trainer.callbacks if getattr(c, "role", "") not in ("checkpointing", "progress_bar")]
    trainer.callbacks.append(watch)
    trainer.max_steps = steps
    trainer.log_every_n_steps = 1
    history = trainer.fit(**arguments, ckpt_path=ckpt_path)
    if trainer.global_step < steps:
        raise ValueError(f"the run ended after {trainer.global_step} of {steps} steps; allow more epochs, or pass fewer steps")
    module = trainer.module
    assert module is not None
    found = {
        "steps": watch.steps,
        "records": [[record.step, {key: _bits(value) for key, value in record.values.items()}] for record in history.records],
        "module": {name: value.detach().cpu() for name, value in module.state_dict().items() if isinstance(value, Tensor)},
        "optimizers": [_digest(optimizer.state_dict()) for optimizer in trainer.optimizers],
        "callbacks": {
            callback.state_key: _digest(callback.state_dict())
            for callback in trainer.callbacks
            if isinstance(callback, Callback) and callback is not watch
        },
    }
    torch.save(found, result)


class _Watch(Callback):
    """Notes what every batch was and what came of it; saves and kills its own process if it is to."""

    def __init__(self, kill: tuple[int, Path] | None) -> None:
        self.kill = kill
        self.steps: list[dict[str, Any]] = []
        self._batch = ""

    @hookimpl(tryfirst=True)
    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> None:
        """Notes what the batch is."""
        self._batch = _digest(batch)

    @hookimpl(trylast=True)
    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Notes what came of it."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        self.steps.append(
            {
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                "batch": batch_idx,
                "samples": self._batch,
                "loss": _bits(loss) if isinstance(loss, Tensor) else "",
                "learning rates": [str(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups],
            }
        )
        if self.kill is not None and trainer.global_step == self.kill[0]:
            trainer.save_checkpoint(self.kill[1])
            os.kill(os.getpid(), signal.SIGKILL)


def _bits(value: Any) -> str:
    return float(value).hex()


def _digest(value: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)

    def add(tensor: Any) -> Any:
        if isinstance(tensor, Tensor):
            digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            return None  # so that the rest is without tensors
        return tensor

    digest.update(repr(apply_to_tensors(value, add)).encode())
    return digest.hexdigest()


def _differences(whole: dict[str, Any], second: dict[str, Any], at: int) -> list[str]:
    found: list[str] = []
    last = next(index for index, step in enumerate(whole["steps"]) if step["step"] == at)  # before the kill
    expected = whole["steps"][last + 1 :]
    if len(expected) != len(second["steps"]):
        found.append(f"{len(expected)} batches remained, the resumed run trained on {len(second['steps'])}")
    for one, other in zip(expected, second["steps"], strict=False):
        place_text = f"of batch {one['batch']} of epoch {one['epoch']}"
        if (one["epoch"], one["batch"]) != (other["epoch"], other["batch"]):
            found.append(f"batch {other['batch']} of epoch {other['epoch']} was trained on in place {place_text}")
        for what in ("samples", "loss", "learning rates"):
            if one[what] != other[what]:
                values = "" if what == "samples" else f": {_shown(one[what])} without interruption, {_shown(other[what])} resumed"
                found.append(f"the {what} {place_text} differ{'s' if what == 'loss' else ''}{values}")
    records = [record for record in whole["records"] if record[0] >= at - 1]  # the kill came before that of its step
    if len(records) != len(second["records"]):
        found.append(f"{len(records)} records remained, the resumed run has {len(second['records'])}")
    for one, other in zip(records, second["records"], strict=False):
        for key in sorted({*one[1], *other[1]}):
            if one[1].get(key) != other[1].get(key):
                values = f"{_shown(one[1].get(key))} without interruption, {_shown(other[1].get(key))} resumed"
                found.append(f"the record of {key!r} at step {one[0]} differs: {values}")
    for name, value in whole["module"].items():
        other_value = second["module"].get(name)
        if other_value is None or not torch.equal(value, other_value):
            largest = "" if other_value is None else f" by up to {(value.double() - other_value.double()).abs().max().item():.3g}"
            found.append(f"the tensor {name!r} of the module differs at the end{largest}")
    found += [
        f"the state of optimizer {index} differs at the end"
        for index, (one, other) in enumerate(zip(whole["optimizers"], second["optimizers"], strict=True))
        if one != other
    ]
    found += [
        f"the state of callback {key} differs at the end"
        for key, value in whole["callbacks"].items()
        if second["callbacks"].get(key) != value
    ]
    return found


def _shown(value: Any) -> str:
    return str(float.fromhex(value)) if isinstance(value, str) and "0x" in value else str(value)
