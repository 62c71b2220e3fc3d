"""The folder of a run's checkpoints: names in it, and whether it can be written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import fsspec


def is_remote(path: str) -> bool:
    """Whether ``path`` is a URL."""
    return "://" in path


def join(folder: str, name: str) -> str:
    """The path of ``name`` in ``folder``, both local or a URL."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder) / name)


def exists(path: str) -> bool:
    """Whether there is such a file, or a link of that name."""
    if is_remote(path):
        filesystem, inner = fsspec.core.url_to_fs(path)
        return bool(filesystem.exists(inner))
    return os.path.lexists(path)


def relative(folder: str, path: str) -> str:
    """``path`` as seen from ``folder``; unchanged where there is no way from one to the other."""
    if not path or is_remote(path) or is_remote(folder):
        return path.removeprefix(f"{folder.rstrip('/')}/")
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # another drive
        return path


def is_inside(folder: str, name: str) -> bool:
    """Whether ``name``, perhaps read from a file, stays inside ``folder`` whatever it says."""
    if is_remote(folder):
        return ".." not in name.split("/") and "://" not in name and not name.startswith("/")
    # The last part may be a link that points elsewhere: it is the link that would be deleted.
    target = Path(folder) / name
    return (target.parent.resolve() / target.name).is_relative_to(Path(folder).resolve()) and target.name not in ("", ".", "..")


def check_writable(owner: str, folder: str) -> None:
    """Writes to the folder, or where it would be made, and leaves nothing behind.

    Raises:
        OSError: that failed.
    """
    if is_remote(folder):
        return
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        raise OSError(
            f"{owner}(dirpath={folder!r}): checkpoints cannot be written there: {place}: {error.strerror}; "
            f"pass a dirpath or a default_root_dir that can be written, or Trainer(enable_checkpointing=False)"
        ) from error
