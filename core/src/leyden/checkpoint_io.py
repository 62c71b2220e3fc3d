"""How a checkpoint is written and read, as one file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, Any, cast

import torch

from leyden.checkpoint.archive import check_sizes, why_unreadable
from leyden.component import Component

StrPath = str | os.PathLike[str]


class CheckpointIO(Component):
    """``torch.save`` to a file, local or behind any URL that fsspec knows; subclasses override what differs.

    A local file is written under a temporary name in its own directory, flushed to the disk and then renamed, so that a
    name never stands for half a checkpoint.
    """

    group = "leyden.checkpoint_io"
    kind = "checkpoint_io"
    name = "torch"

    def save(self, checkpoint: dict[str, Any], path: StrPath) -> None:
        """Writes ``checkpoint``; called on rank 0 only.

        Raises:
            OSError: it could not be written; whatever stood under ``path`` before still does.
        """
        path = os.fspath(path)
        if "://" in path:
            import fsspec  # only remote paths need it, and it takes its time

            with fsspec.open(path, "wb") as remote:
                torch.save(checkpoint, cast("IO[bytes]", remote))
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_directory(target.parent)

    def load(self, path: StrPath, map_location: Any = "cpu") -> dict[str, Any]:
        """Reads a checkpoint; nothing named in the file is imported or run.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a checkpoint of plain data.
        """
        path = os.fspath(path)
        if "://" not in path and not Path(path).is_file():
            raise FileNotFoundError(f"there is no checkpoint {path!r}")
        with _opened(path) as file:
            check_sizes(file, path)
            try:
                checkpoint = torch.load(file, map_location=map_location, weights_only=True)
            except OSError:
                raise
            except Exception as error:
                raise ValueError(why_unreadable(file, path, error)) from error
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise ValueError(f"{path!r} is not a checkpoint: it holds no 'state_dict'")
        return checkpoint

    def remove(self, path: StrPath) -> None:
        """Deletes a checkpoint; one that is gone already is no error."""
        path = os.fspath(path)
        if "://" in path:
            import fsspec  # see save()

            filesystem, inner = fsspec.core.url_to_fs(path)
            if filesystem.exists(inner):
                filesystem.rm(inner)
        else:
            Path(path).unlink(missing_ok=True)


def _opened(path: str) -> IO[bytes]:
    if "://" not in path:
        return Path(path).open("rb")
    import fsspec  # see CheckpointIO.save

    opened: Any = fsspec.open(path, "rb")
    return cast("IO[bytes]", opened.open())


def _sync_directory(directory: Path) -> None:
    """Makes a rename survive a power failure, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open a directory
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
