"""Writes a checkpoint in another format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from leyden import CheckpointIO, __version__
from leyden.checkpoint.format import FORMAT, understood
from leyden.checkpoint.legacy import read_legacy
from torch import Tensor

from leyden_cli.command import UsageError

LIGHTNING = "2.6.6"
"""The version of Lightning whose keys a converted file has; tried with that version."""


def convert(path: str, new_path: str, to: str | None, allow: Iterable[str], force: bool) -> str:
    """Reads one file and writes another; returns a sentence about it.

    Raises:
        UsageError: there is no such file, or the new one exists, or its format needs a package that is not installed.
        ValueError: it is no checkpoint, or it names classes that were not allowed.
    """
    target = Path(new_path)
    if target.exists() and not force:
        raise UsageError(f"{new_path!r} exists; pass --force to replace it")
    to = to or {".safetensors": "safetensors", ".pt": "state_dict", ".pth": "state_dict"}.get(target.suffix, "leyden")
    try:
        checkpoint = _read(path, list(allow))
    except OSError as error:
        raise UsageError(str(error)) from None
    target.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[to](checkpoint, target)
    return f"{new_path}: {to}, {len(checkpoint['state_dict'])} weights, from {path}"


def _read(path: str, allow: list[str]) -> dict[str, Any]:
    if "://" in path and not allow:
        return understood(CheckpointIO().load(path), path)
    try:
        CheckpointIO().verify(path)
        # Reads plain files too; of others it takes paths, dates and the like without being told.
        return read_legacy(path, allow)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path!r}") from None


def _to_leyden(checkpoint: dict[str, Any], target: Path) -> None:
    checkpoint["leyden"] = {"format": FORMAT, "version": __version__, **checkpoint.get("leyden", {})}
    CheckpointIO().save(checkpoint, target)


def _to_lightning(checkpoint: dict[str, Any], target: Path) -> None:
    progress = checkpoint.get("leyden", {}).get("progress", {})
    checkpoint["pytorch-lightning_version"] = LIGHTNING
    if "loops" not in checkpoint:
        checkpoint["loops"] = {"fit_loop": _fit_loop(progress)}
    steps = sum(progress.get("optimizer_steps") or [progress.get("global_step", 0)])
    checkpoint.update(epoch=progress.get("epoch", 0), global_step=steps)
    checkpoint.pop("leyden", None)
    CheckpointIO().save(checkpoint, target)


def _fit_loop(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Where the run is, as Lightning 2 keeps it."""
    epoch, batch, total = (int(progress.get(name, 0)) for name in ("epoch", "batch", "total_batches"))
    steps = sum(progress.get("optimizer_steps") or [progress.get("global_step", 0)])
    started = epoch + (batch > 0)

    def counts(current: int, whole: int, *names: str) -> dict[str, dict[str, int]]:
        return {"total": dict.fromkeys(names, whole), "current": dict.fromkeys(names, current)}

    four = ("ready", "started", "processed", "completed")
    epochs = {"ready": started, "started": started, "processed": epoch, "completed": epoch}
    return {
        "state_dict": {},
        "epoch_progress": {"total": epochs, "current": dict(epochs)},
        "epoch_loop.state_dict": {"_batches_that_stepped": int(progress.get("global_step", 0))},
        "epoch_loop.batch_progress": {**counts(batch, total, *four), "is_last_batch": batch == 0 and total > 0},
        "epoch_loop.scheduler_progress": counts(0, 0, "ready", "completed"),
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {
                "step": counts(0, steps, "ready", "completed"),
                "zero_grad": counts(0, steps, "ready", "started", "completed"),
            }
        },
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": counts(0, 0, "ready", "completed"),
        "epoch_loop.val_loop.state_dict": {},
        "epoch_loop.val_loop.batch_progress": {**counts(0, 0, *four), "is_last_batch": False},
    }


def _to_state_dict(checkpoint: dict[str, Any], target: Path) -> None:
    # The weights alone, as load_state_dict() of a plain module takes them.
    torch.save(dict(checkpoint["state_dict"]), target)


def _to_safetensors(checkpoint: dict[str, Any], target: Path) -> None:
    if find_spec("safetensors") is None:
        raise UsageError("--to safetensors needs a package that is not installed; run: pip install safetensors")
    from safetensors.torch import save_file

    weights = checkpoint["state_dict"]
    others = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if others:
        raise UsageError(f"safetensors holds tensors only, and {others[0]!r} is a {type(weights[others[0]]).__name__}")
    # Tensors that share memory are written each, as the format wants it.
    save_file({name: value.detach().clone().contiguous() for name, value in weights.items()}, target, {"format": "pt"})


_WRITERS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "leyden": _to_leyden,
    "lightning": _to_lightning,
    "safetensors": _to_safetensors,
    "state_dict": _to_state_dict,
}
FORMATS = tuple(_WRITERS)
