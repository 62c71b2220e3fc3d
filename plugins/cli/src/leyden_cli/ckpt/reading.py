"""Reads a checkpoint for the tools of ``leyden ckpt``."""

from __future__ import annotations

import zipfile
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
    damage = damaged_part(path)
    if damage is not None:
        raise ValueError(f"{path!r} is damaged: {damage!r} in it is not what was written (its checksum differs)")
    return understood(checkpoint, path)


def damaged_part(path: str) -> str | None:
    """The first part of a local zip archive that does not have its checksum; torch does not look at these."""
    if "://" in path or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


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
