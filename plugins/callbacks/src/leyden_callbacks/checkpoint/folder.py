"""The folder of a run's checkpoints: names in it, and whether it can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import fsspec
from leyden.checkpoint.files import sync_directory, temporary_for


class Folder:
    """A local folder or a URL; names in it are relative paths.

    Args:
        path: absolute, or a URL that fsspec knows.
    """

    def __init__(self, path: str) -> None:
        self.path = path if is_remote(path) else str(Path(path).expanduser().absolute())

    def of(self, name: str) -> str:
        """The path of ``name``."""
        return f"{self.path.rstrip('/')}/{name}" if is_remote(self.path) else str(Path(self.path) / name)

    def name(self, path: str) -> str:
        """``path`` as seen from here; unchanged where there is no way to it, empty if it is."""
        if not path or is_remote(path) or is_remote(self.path):
            return path.removeprefix(f"{self.path.rstrip('/')}/")
        try:
            return os.path.relpath(path, self.path)
        except ValueError:  # another drive
            return path

    def has(self, name: str) -> bool:
        """Whether there is such a file, or a link of that name."""
        path = self.of(name)
        if is_remote(path):
            filesystem, inner = fsspec.core.url_to_fs(path)
            return bool(filesystem.exists(inner))
        return os.path.lexists(path)

    def holds(self, name: str) -> bool:
        """Whether ``name``, perhaps read from a file, stays in the folder whatever it says."""
        if is_remote(self.path):
            return bool(name) and ".." not in name.split("/") and "://" not in name and not name.startswith("/")
        # The last part may be a link that points elsewhere: it is the link that would be deleted.
        target = Path(self.of(name))
        return target.name not in ("", ".", "..") and (target.parent.resolve() / target.name).is_relative_to(
            Path(self.path).resolve()
        )

    def newest(self, paths: Iterable[str | Path]) -> str | None:
        """The file last written of ``paths``, which are in the order in which they were made; None if there is none."""
        found = [str(path) for path in paths]
        if is_remote(self.path):
            return found[-1] if found else None
        return max((path for path in found if Path(path).is_file()), key=lambda path: Path(path).stat().st_mtime_ns, default=None)

    @cached_property
    def has_links(self) -> bool:
        """Whether there can be symbolic links in the folder, which must exist."""
        if is_remote(self.path):
            return False
        try:
            with tempfile.TemporaryDirectory(dir=self.path, prefix=".") as place:
                Path(place, "link").symlink_to("nowhere")
        except OSError:
            return False
        return True

    def link(self, name: str, target: str) -> None:
        """Makes ``name`` a link to ``target``, replacing what was there."""
        path = Path(self.of(name))
        temporary = temporary_for(path)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(self.of(target), path.parent))
        temporary.replace(path)
        sync_directory(path.parent)

    def check_writable(self, owner: str) -> None:
        """Writes to the folder, or where it would be made, and leaves nothing behind.

        Raises:
            OSError: that failed.
        """
        if is_remote(self.path):
            return
        place = Path(self.path)
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(b"\0")
                file.flush()
        except OSError as error:
            raise OSError(
                f"{owner}(dirpath={self.path!r}): checkpoints cannot be written there: {place}: {error.strerror}; "
                f"pass a dirpath or a default_root_dir that can be written, or Trainer(enable_checkpointing=False)"
            ) from error


def is_remote(path: str) -> bool:
    """Whether ``path`` is a URL."""
    return "://" in path
