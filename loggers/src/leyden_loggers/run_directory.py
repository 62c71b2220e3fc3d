"""The directory of one run, which no other run is given."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leyden.messages import warn

from leyden_loggers.hparams_file import readable, to_yaml, write_atomically

_VERSION = r"version_(\d+)"


class RunDirectory:
    """``<root>/version_N``, or ``<root>/<version>`` if the version is a word; several loggers may share one object.

    Nothing is created until somebody asks for the directory. A version that was left open is then chosen, one above the
    highest there is, and taken by ``mkdir``, which fails for all but one of the processes that try the same number.

    Args:
        root: where the runs of one kind lie side by side.
        version: the run; None takes a new one. A version that exists is continued.
    """

    def __init__(self, root: str | os.PathLike[str], version: int | str | None = None) -> None:
        self.root = Path(root)
        self._version = version
        self._place: Path | None = None  # absolute: a script may change its working directory while it trains
        self._times_made = 0
        self._hparams: dict[str, Any] = {}

    @property
    def version(self) -> int | str:
        """The run's number or name; one that was left open is chosen now, and its directory made.

        Raises:
            OSError: the directory cannot be made; the message has its path.
        """
        if self._version is None:
            self._take_new_version()
        assert self._version is not None
        return self._version

    @property
    def is_chosen(self) -> bool:
        """Whether asking for the version or the path chooses and makes nothing."""
        return self._version is not None

    def follow(self, name: str) -> None:
        """Takes the directory of this name, which another process has chosen, if the version was left open."""
        number = re.fullmatch(_VERSION, name)
        if self._version is None:
            self._version = int(number[1]) if number else name

    @property
    def path(self) -> Path:
        """The directory, under ``root`` as it was given; see :attr:`version`."""
        return self.root / _directory_name(self.version)

    @property
    def existing(self) -> Path | None:
        """The directory if it exists already, else None; asking chooses and makes nothing."""
        if self._version is None:
            return None
        place = self._place or self.path.absolute()
        return place if place.is_dir() else None

    def open(self) -> tuple[Path, int]:
        """Makes sure that the directory exists.

        Returns:
            Its absolute path, and how often it was made: files opened under another count are gone.

        Raises:
            OSError: it cannot be made; the message has its path.
        """
        path = self.path  # chooses the version, and makes the directory of a new one
        if self._place is None:
            self._place = path.absolute()
        if not self._place.is_dir():
            deleted = self._times_made > 0
            with refusing(self._place):
                self._place.mkdir(parents=True, exist_ok=True)
            self._times_made += 1
            if deleted:
                warn(
                    "LYL03",
                    f"the run's directory {str(path)!r} was deleted while the run wrote to it; it was made again and has "
                    f"only what is logged from now on",
                )
                if self._hparams:
                    self._write_hparams()
        elif not self._times_made:
            self._times_made = 1
        return self._place, self._times_made

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Writes ``hparams.yaml``, with what it was given before and ``params``; what is unchanged is not written again.

        Raises:
            OSError: the file cannot be written; the message has its path.
        """
        hparams = {**self._hparams, **readable(params)}
        place, _ = self.open()
        if hparams == self._hparams and (place / "hparams.yaml").exists():
            return
        self._hparams = hparams
        self._write_hparams()

    def _write_hparams(self) -> None:
        place, _ = self.open()
        with refusing(place / "hparams.yaml"):
            write_atomically(place / "hparams.yaml", to_yaml(self._hparams).encode())

    def _take_new_version(self) -> None:
        root = self.root.absolute()
        with refusing(root):
            root.mkdir(parents=True, exist_ok=True)
            taken = [int(match[1]) for entry in root.iterdir() if (match := re.fullmatch(_VERSION, entry.name))]
            number = max(taken, default=-1) + 1
            while self._version is None:
                place = root / _directory_name(number)
                try:
                    place.mkdir()
                except FileExistsError:
                    number += 1  # another process was faster
                else:
                    self._version, self._place, self._times_made = number, place, 1


def _directory_name(version: int | str) -> str:
    return f"version_{version}" if isinstance(version, int) else version


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Errors of the file system leave with the path and a way out, in their own class."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"the logger cannot write to {str(path)!r}: {reason}; pass a save_dir that can be written to, or logger=False"
        raise OSError(error.errno, text) from error  # the errno makes it a PermissionError, a NotADirectoryError, ... again
