"""Reads a checkpoint for the tools of ``leyden ckpt``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leyden import CheckpointIO
from leyden.checkpoint.format import understood

from leyden_cli.command import UsageError


def opened(path: str) -> dict[str, Any]:
    """The checkpoint in a file, checked against its checksums.

    Raises:
        UsageError: there is no such file.
        ValueError: it is no checkpoint, or damaged.
    """
    try:
        checkpoint = CheckpointIO().load(path)
    except OSError as error:
        raise UsageError(str(error)) from None
    return understood(checkpoint, path)


def files_in(paths: list[str]) -> list[str]:
    """The paths, with each local directory's ``*.ckpt`` files in its place.

    Raises:
        UsageError: a directory has none.
    """
    found = []
    for path in paths:
        if "://" in path or not Path(path).is_dir():
            found.append(path)
            continue
        inside = sorted(str(file) for file in Path(path).glob("*.ckpt"))
        if not inside:
            raise UsageError(f"there is no *.ckpt file in {path!r}")
        found += inside
    return found


def size_of(path: str) -> int | None:
    """Bytes of a local file."""
    return None if "://" in path else Path(path).stat().st_size


def in_bytes(count: int) -> str:
    """``512 B``, ``6.4 kB``, ``1.2 GB``."""
    size, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    for bigger in units:
        if size < 1000:
            break
        size, unit = size / 1000, bigger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
