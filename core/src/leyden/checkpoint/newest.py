"""Finds the checkpoint that a run is to go on from, and passes over those that are not whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leyden.checkpoint.format import understood
from leyden.checkpoint.manifest import NAME, Entry, Manifest
from leyden.messages import notify
from leyden.returned import returned

if TYPE_CHECKING:
    from leyden.trainer import Trainer

_DEPTH = 5
"""How many directories below ``default_root_dir`` a run's checkpoints may lie: name/version_3/checkpoints, and two more."""


def open_checkpoint(trainer: Trainer, ckpt_path: Any) -> dict[str, Any] | None:
    """The checkpoint that a run starts from; sets ``trainer.loaded_checkpoint``. None if there is none and none is asked for.

    In place of ``"last"``, or of what ``auto_resume`` finds, an older one is taken if the newest is damaged, and that is said.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, or ``"last"`` and ``"best"`` are known to nobody.
    """
    if ckpt_path is None and trainer.stage == "fit" and trainer.auto_resume:
        found = trainer.strategy.broadcast(_newest_of_run(trainer))
        if found is None:
            notify("LY017", f"auto_resume: there is no checkpoint below {trainer.default_root_dir!r} yet; training starts anew")
            return None
        notify("LY017", f"auto_resume: going on from {found!r}")
        return _newest_whole(trainer, found)
    if ckpt_path is None:
        return None
    path = trainer.resolve_checkpoint(ckpt_path)
    if os.fspath(ckpt_path) == "last":
        return _newest_whole(trainer, path)
    trainer.loaded_checkpoint = path
    return _load(trainer, path)


def _load(trainer: Trainer, path: str) -> dict[str, Any]:
    io = trainer.checkpoint_io
    return understood(returned(io.load(path), io, "load", dict, "a dict"), path)


def _newest_whole(trainer: Trainer, path: str) -> dict[str, Any]:
    try:
        checkpoint = _load(trainer, path)
    except (OSError, ValueError) as error:
        if "://" in path:
            raise
        older = _older(Path(path))
        for place, entry, lost in older:
            try:
                checkpoint = _load(trainer, place)
            except (OSError, ValueError):
                continue
            reason = str(error).partition("; the newest whole one")[0]
            steps = f"{lost} steps are lost" if lost is not None else "how many steps are lost is not known"
            notify(
                "LY016", f"the newest checkpoint is passed over: {reason}; going on from {place!r} of step {entry.step}: {steps}"
            )
            trainer.loaded_checkpoint = place
            return checkpoint
        raise
    trainer.loaded_checkpoint = path
    return checkpoint


def _older(path: Path) -> list[tuple[str, Entry, int | None]]:
    """The other checkpoints of the run that ``path`` belongs to, newest first, each with how many steps it is behind."""
    for directory in path.parents:
        manifest = Manifest.read(directory)
        if not manifest.entries:
            continue
        entry = manifest.find(path.relative_to(directory).as_posix())
        others = manifest.of_run(entry.run if entry is not None else None)
        return [
            (str(manifest.path(other)), other, entry.step - other.step if entry is not None else None)
            for other in others
            if not other.weights_only and other.name != (entry.name if entry is not None else path.name)
        ]
    return []


def _newest_of_run(trainer: Trainer) -> str | None:
    return trainer.known_checkpoint("last") or find_checkpoint(trainer, "last")


def find_checkpoint(trainer: Trainer, which: str) -> str | None:
    """The ``"best"`` or ``"last"`` checkpoint of the newest run below ``default_root_dir`` and the loggers' directories."""
    roots = [Path(trainer.default_root_dir)] if "://" not in trainer.default_root_dir else []
    roots += [Path(root) for logger in trainer.loggers if (root := getattr(logger, "root_dir", None)) and "://" not in str(root)]
    newest: tuple[float, str] | None = None
    for path in {found for root in roots for found in _manifests(root)}:
        manifest = Manifest.read(path.parent, trainer.checkpoint_io.checksum)
        entries = [entry for entry in manifest.of_run() if which == "best" or not entry.weights_only]
        wanted = manifest.best() if which == "best" else next(iter(entries), None)
        if wanted is not None and entries and (newest is None or entries[0].time > newest[0]):
            newest = entries[0].time, str(manifest.path(wanted))
    return newest[1] if newest else None


def _manifests(root: Path) -> list[Path]:
    """The lists of checkpoints in ``root`` and not too far below it."""
    found = []
    depth = len(root.parts)
    for directory, below, names in os.walk(root):
        if NAME in names:
            found.append(Path(directory) / NAME)
        if len(Path(directory).parts) - depth >= _DEPTH:
            below.clear()
        below[:] = [name for name in below if not name.startswith((".", "__"))]
    return found
