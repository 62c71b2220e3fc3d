"""What loggers have in common that write into a run's directory."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leyden.messages import quoted, shown

from leyden_loggers.records import RecordLogger
from leyden_loggers.run_directory import RunDirectory

if TYPE_CHECKING:
    from leyden import Trainer


class LocalLogger(RecordLogger):
    """Writes into ``<save_dir>/<name>/version_N``; subclasses say what.

    Loggers of one Trainer that have the same ``save_dir`` and ``name`` share one directory, unless a later one was given a
    version that is not the first one's. Nothing is created before the first write, or before somebody asks for ``log_dir``.

    Args:
        save_dir: where runs are kept, on a local file system; the Trainer's ``default_root_dir`` if None.
        name: a directory below it for one kind of run; empty or None for none.
        version: a number N for ``version_N`` or a directory's name, continued if it exists; None takes the next free number.
        prefix: put before each key, as in ``prefix-loss``.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: ``save_dir`` is a URL, ``name`` or ``version`` leads out of ``save_dir``, or ``version`` is negative.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "leyden_logs",
        version: int | str | None = None,
        prefix: str = "",
    ) -> None:
        self._check(save_dir, name, version)
        super().__init__(prefix)
        self._save_dir = None if save_dir is None else str(Path(save_dir).expanduser())
        self._name = name or ""
        self._wanted_version = version
        self._run_directory: RunDirectory | None = None

    def _check(self, save_dir: object, name: object, version: object) -> None:
        who = type(self).__name__
        if save_dir is not None and not isinstance(save_dir, str | os.PathLike):
            raise TypeError(f"{who}(save_dir={quoted(save_dir)}): expected a path or None, got {shown(save_dir)}")
        if save_dir is not None and "://" in os.fspath(save_dir):
            raise ValueError(f"{who}(save_dir={quoted(save_dir)}): expected a directory on a local file system, got a URL")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{who}(name={quoted(name)}): expected a str or None, got {shown(name)}")
        if version is not None and (isinstance(version, bool) or not isinstance(version, int | str)):
            raise TypeError(f"{who}(version={quoted(version)}): expected an int >= 0, a str or None, got {shown(version)}")
        if version == "" or (isinstance(version, int) and version < 0):
            raise ValueError(f"{who}(version={quoted(version)}): expected an int >= 0, a str that is not empty, or None")
        for argument, value in (("save_dir", save_dir), ("name", name), ("version", version)):
            if isinstance(value, str | os.PathLike) and "\0" in os.fspath(value):
                raise ValueError(f"{who}({argument}={quoted(value)}): no path has the character '\\x00'")
            if argument != "save_dir" and isinstance(value, str) and leads_out(value):
                raise ValueError(
                    f"{who}({argument}={quoted(value)}): expected a directory's name below save_dir; pass the rest as save_dir"
                )

    def connect(self, trainer: Trainer) -> None:
        """Takes the place to write to from ``trainer``, or from a logger before this one; opens and creates nothing.

        Raises:
            ValueError: both would write the same records into one file.
        """
        super().connect(trainer)
        if self._run_directory is not None:
            return  # logged before, alone or for another Trainer: it continues where it was
        mine = Path(self.root_dir).resolve()
        for other in trainer.loggers:
            if other is self:
                break
            if not isinstance(other, LocalLogger) or Path(other.root_dir).resolve() != mine:
                continue
            if self._wanted_version in (None, other._wanted_version):
                if self._doubles(other):
                    who = f"two {type(self).__name__} of this Trainer"
                    raise ValueError(f"{who} would write into one place below {self.root_dir!r}; give one of them another name")
                self._run_directory = other.run_directory
                return

    def _doubles(self, other: LocalLogger) -> bool:
        """Whether what both write into one directory could not be told apart."""
        return type(self) is type(other)

    # ---- where ----

    @property
    def save_dir(self) -> str:
        """Where runs are kept: what was given, else the Trainer's ``default_root_dir``, else the working directory."""
        if self._save_dir is not None:
            return self._save_dir
        return self._trainer.default_root_dir if self._trainer is not None else "."

    @property
    def name(self) -> str:  # type: ignore[override]  # users know a logger's name as the directory's, not the plug-in's
        """The directory below ``save_dir``; empty if there is none."""
        return self._name

    @property
    def root_dir(self) -> str:
        """``<save_dir>/<name>``: where the runs of this name lie side by side."""
        return str(Path(self.save_dir, self._name))

    @property
    def run_directory(self) -> RunDirectory:
        """The run's directory, which may be shared; getting it chooses and makes nothing."""
        if self._run_directory is None:
            self._run_directory = RunDirectory(self.root_dir, self._wanted_version)
        return self._run_directory

    @property
    def version(self) -> int | str | None:
        """The run's number or name; chosen now if it was left open. Ranks other than 0 have None until :meth:`follow`."""
        return self.run_directory.version if self._knows_directory else None

    @property
    def log_dir(self) -> str | None:
        """The run's directory; a new one is taken now if the version was left open. Ranks other than 0 have None until
        :meth:`follow`.

        Raises:
            OSError: the directory cannot be made; the message has its path.
        """
        return str(self.run_directory.path) if self._knows_directory else None

    @property
    def _knows_directory(self) -> bool:
        return self._writes or self.run_directory.is_chosen

    def follow(self, log_dir: str) -> None:
        """Takes the version that rank 0 has chosen, if it was left open."""
        chosen, root = Path(log_dir), Path(self.root_dir)
        if chosen != root and chosen.is_relative_to(root):
            self.run_directory.follow(chosen.relative_to(root).parts[0])

    def _open(self) -> None:
        self.run_directory.open()

    # ---- what ----

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, metrics: Mapping[str, float] | None = None) -> None:
        """Writes ``hparams.yaml`` in the run's directory, once for all loggers that share it.

        Args:
            params: nested dicts, lists and scalars; other values are described in a string.
            metrics: results that belong to these hyperparameters; taken by loggers that compare runs.

        Raises:
            OSError: the file cannot be written; the message has its path.
        """
        if not self._writes:
            return
        self.run_directory.log_hyperparams(vars(params) if isinstance(params, Namespace) else params)


def leads_out(name: str | os.PathLike[str]) -> bool:
    """Whether a path that is to lie below a directory leads out of it."""
    return Path(name).is_absolute() or ".." in Path(name).parts
