"""Writes a file so that its name never stands for half of it, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from leyden.checkpoint.processes import is_running, started

_STRIDE = 8 << 20
"""Bytes after which the system is asked to begin writing: a 256 MB file was durable after 126 to 136 ms rather than 187."""

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]*)\.(?P<pid>\d+)\.(?P<started>\d+)\.leyden-tmp")
_reserves = sys.platform == "linux"


def temporary_for(path: Path) -> Path:
    """The name under which ``path`` is written first: in its directory, with the process that writes it."""
    host = socket.gethostname().replace(".", "-")
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.{started(os.getpid())}.leyden-tmp")


def remove_stale(directory: Path) -> list[Path]:
    """Deletes what writers that are dead left in ``directory``; one of another machine is dead if it is a day old.

    Returns:
        What was deleted.
    """
    removed = []
    host = socket.gethostname().replace(".", "-")
    with contextlib.suppress(OSError):
        for path in list(directory.glob(".*.leyden-tmp")):
            match = _TEMPORARY.fullmatch(path.name)
            if match is None:
                continue
            with contextlib.suppress(OSError):
                if match["host"] == host:
                    stale = not is_running(int(match["pid"]), int(match["started"]))
                else:
                    stale = _age(path) > 86400
                if stale:
                    path.unlink()
                    removed.append(path)
    return removed


def _age(path: Path) -> float:
    import time

    return time.time() - path.stat().st_mtime


def write_file(path: Path, write: Callable[[IO[bytes]], Any], expected: int = 0, *, durable: bool = True) -> int:
    """Writes ``path``: a temporary file beside it, flushed to the disk, renamed, and the directory flushed.

    Args:
        path: the file; directories are made, and what stood there before stands until the new file is whole.
        write: called with the open file.
        expected: how many bytes that will be, about; refused before anything is written if they do not fit.
        durable: whether the name, too, must survive a power failure at once; the contents always do.

    Returns:
        The size in bytes.

    Raises:
        OSError: it could not be written; with the path, and where space was lacking with what is needed and free.
    """
    with explaining(path, expected):
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, expected)
        temporary = temporary_for(path)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                raw = _Raw(descriptor)
                reserved = expected > _STRIDE and _reserve(descriptor, expected)
                try:
                    buffered = io.BufferedWriter(raw, 1 << 20)
                    write(buffered)
                    buffered.flush()
                except BaseException:
                    if raw.failure is not None:  # torch hides it behind an error of its own
                        raise raw.failure from None
                    raise
                if reserved:
                    os.ftruncate(descriptor, raw.written)  # gives back what was too much
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)  # noqa: PTH105  # one module for all that tests make fail
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108  # as above
            raise
        if durable:
            sync_directory(path.parent)
    return raw.written


class _Raw(io.RawIOBase):
    """A file that the system begins to put on the disk while it is being written."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.written = self._begun = 0
        self.failure: BaseException | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                done += os.write(self.descriptor, view[done:])
        except BaseException as error:
            self.failure = error
            raise
        self.written += done
        if self.written - self._begun >= _STRIDE and hasattr(os, "posix_fadvise"):
            # On Linux this starts writing; the final fsync then has little left to wait for.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self.descriptor, self._begun, self.written - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self.written
        return done


@cache
def _fallocate() -> Any:
    if not _reserves:
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


def _reserve(descriptor: int, size: int) -> bool:
    """Takes the space of a file before it is written, where the system can: it writes faster then, and cannot run out.

    ``os.posix_fallocate`` is not it: where the file system cannot reserve, glibc writes to every block instead.

    Raises:
        OSError: there is not so much space.
    """
    function = _fallocate()
    if function is None or function(descriptor, 1, 0, size) != 0:  # 1: the size stays what was written
        if function is not None and ctypes.get_errno() in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return False
    return True


def check_space(directory: Path, needed: int) -> None:
    """Refuses what does not fit.

    Raises:
        OSError: ENOSPC, without a message; :func:`explaining` adds it.
    """
    if needed and needed > free_space(directory):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def free_space(directory: Path) -> int:
    """Bytes that can still be written to the file system of ``directory``."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return sys.maxsize  # a file system that does not say


@contextmanager
def explaining(path: Path, needed: int = 0) -> Iterator[None]:
    """Errors of the file system leave with the path, with the space that was needed and is left, and with a way out."""
    try:
        yield
    except OSError as error:
        if getattr(error, "explained", False):
            raise
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            there = next((place for place in path.parents if place.exists()), path.parent)
            want = f"{needed:,} bytes are needed and " if needed else ""
            reason = f"{reason}: {want}{free_space(there):,} are free"
            hint = "free some, keep fewer checkpoints (save_top_k, save_weights_only), or save elsewhere (dirpath)"
        else:
            hint = "pass a dirpath or a default_root_dir that can be written to"
        explained = OSError(error.errno, f"{str(path)!r} could not be written: {reason}; what stood there before is kept; {hint}")
        explained.explained = True  # type: ignore[attr-defined]  # so that it is said once
        raise explained from error


def sync_directory(directory: Path) -> None:
    """Makes a rename survive a power failure, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open a directory
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # what file systems say that cannot, FUSE's and shared
            raise
