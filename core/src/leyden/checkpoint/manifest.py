"""The list of a directory's checkpoints: what was written there, whole, by which run, with which score."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from leyden.checkpoint.files import write_file

NAME = "checkpoints.json"
FORMAT = 1
Checksum: TypeAlias = Callable[[Path], str]


@dataclass
class Entry:
    """One checkpoint of the directory."""

    name: str
    """Relative to the directory, with ``/``."""

    size: int = 0
    """Bytes; 0 where it was not known."""

    checksum: str = ""
    """What ``CheckpointIO.checksum`` gave."""

    step: int = 0
    epoch: int = 0

    score: float | None = None
    """The value of ``monitor``; None if nothing was monitored or it was not finite."""

    monitor: str | None = None
    mode: str = "min"

    kind: str = "top_k"
    """``"top_k"``, ``"last"``, ``"stop"`` (saved because the run was about to end), ``"obsolete"`` (about to be deleted), or
    ``"elsewhere"``: the best one, in the directory from which the run went on."""

    weights_only: bool = False
    """Whether training cannot go on from it."""

    owner: str = ""
    """The ``state_key`` of the callback that saved it."""

    run: str = ""
    """The run that it belongs to; one that continues a run is the same."""

    order: int = 0
    """Counts the saves of the directory; the newest has the highest."""

    time: float = 0.0
    """Seconds since 1970 when it was saved."""


@dataclass
class Manifest:
    """What ``checkpoints.json`` in ``directory`` says; names in it are relative, so that a directory can be moved.

    A save is announced (:meth:`announce`), then written, then recorded (:meth:`record`). A process that dies between the last
    two leaves a file that is announced: whoever reads the list next finds it whole and takes it in.
    """

    directory: Path
    entries: list[Entry] = field(default_factory=list)
    announced: list[Entry] = field(default_factory=list)
    run: str = ""
    """The run that saved last."""

    # ---- reading ----

    @classmethod
    def read(cls, directory: Path, checksum: Checksum | None = None) -> Manifest:
        """The list in ``directory``; empty if there is none, or none that can be read.

        Args:
            directory: where the checkpoints are.
            checksum: gives the checksum of a whole file by its path, and raises ValueError or OSError for any other; with it,
                files that were announced and turn out whole are among the entries.
        """
        manifest = cls._read(directory)
        if checksum is not None:
            manifest._take_in(checksum)
        return manifest

    @classmethod
    def _read(cls, directory: Path) -> Manifest:
        try:
            found = json.loads((directory / NAME).read_text(encoding="utf-8"))
            if not isinstance(found, dict) or found.get("format", 0) > FORMAT:
                return cls(directory)
            entries = [_entry(item) for item in found.get("checkpoints", [])]
            announced = [_entry(item) for item in found.get("announced", [])]
            return cls(directory, entries, announced, str(found.get("run", "")))
        except (OSError, ValueError, TypeError, AttributeError):
            return cls(directory)

    def path(self, entry: Entry) -> Path:
        """Where its file lies."""
        return self.directory / entry.name

    def find(self, name: str) -> Entry | None:
        """The checkpoint of that name, announced or recorded."""
        return next((entry for entry in [*self.announced, *self.entries] if entry.name == name), None)

    def of_run(self, run: str | None = None) -> list[Entry]:
        """The checkpoints of a run whose files are there, newest first; of the run that saved last if None."""
        run = self.run if run is None else run
        found = [entry for entry in self.entries if entry.run == run and entry.kind != "obsolete" and self._holds(entry.name)]
        return sorted(found, key=lambda entry: entry.order, reverse=True)

    def best(self, monitor: str | None = None, mode: str = "") -> Entry | None:
        """The best checkpoint of the run that saved last.

        Args:
            monitor: of those saved by this value; None takes whatever the newest of the best monitored.
            mode: ``"min"`` or ``"max"``, with ``monitor``.
        """
        kept = [entry for entry in self.of_run() if entry.kind == "top_k"]
        kept += [
            entry for entry in self.entries if entry.kind == "elsewhere" and entry.run == self.run and self.path(entry).is_file()
        ]
        if monitor is not None:
            kept = [entry for entry in kept if entry.monitor == monitor and entry.mode == mode]
        elif kept:
            kept = [entry for entry in kept if (entry.monitor, entry.mode) == (kept[0].monitor, kept[0].mode)]
        if not kept or kept[0].monitor is None:
            return kept[0] if kept else None

        def rank(entry: Entry) -> tuple[bool, float, int]:
            score = entry.score
            if score is None or not math.isfinite(score):
                return (False, 0.0, -entry.order)
            return (True, score if entry.mode == "max" else -score, -entry.order)

        return max(kept, key=rank)

    def _holds(self, name: str) -> bool:
        """Whether there is such a file in the directory, wherever a name read from a file may lead."""
        path = self.directory / name
        if Path(name).is_absolute() or Path(name).name in ("", ".."):
            return False
        inside = (path.parent.resolve() / path.name).is_relative_to(self.directory.resolve())
        return inside and os.path.lexists(path)

    def may_delete(self, name: str, run: str) -> bool:
        """Whether the file is one that this list says ``run`` saved, in this directory."""
        return self._holds(name) and any(entry.name == name and entry.run == run for entry in self.entries)

    # ---- writing ----

    def announce(self, entry: Entry) -> None:
        """Says that a file is about to be written."""
        entry.order = entry.order or self.next_order()
        entry.time = entry.time or time.time()
        self.announced = [*(other for other in self.announced if other.name != entry.name), entry]
        self._write(durable=False)

    def record(self, saved: Sequence[Entry], drop: Collection[str], run: str) -> None:
        """Says that files are there, whole.

        Args:
            saved: as they were announced, with their sizes and checksums.
            drop: names that are not kept any more and are deleted next.
            run: the run that saved them.
        """
        names = {entry.name for entry in saved}
        self.entries = [
            other for other in self.entries if other.name not in names and (other.kind == "elsewhere" or self._holds(other.name))
        ]
        self.entries += saved
        self.announced = [other for other in self.announced if other.name not in names]
        for other in self.entries:
            if other.name in drop and other.name not in names and other.run == run:
                other.kind = "obsolete"
        self.run = run
        self._write()

    def next_order(self) -> int:
        """The place of the next save among all of the directory."""
        return 1 + max((entry.order for entry in [*self.entries, *self.announced]), default=0)

    def forget(self, name: str) -> None:
        """Takes back what :meth:`announce` said: the save failed."""
        self.announced = [other for other in self.announced if other.name != name]
        self._write(durable=False)

    def settle(self, checksum: Checksum) -> list[Entry]:
        """Takes in files that were announced and turn out whole, at the start of a run.

        Returns:
            What can be deleted now: an earlier process died before it did.
        """
        if self.announced:
            self._take_in(checksum)
            self._write()
        return [entry for entry in self.entries if entry.kind == "obsolete" and self._holds(entry.name)]

    def _take_in(self, checksum: Checksum) -> None:
        for entry in self.announced:
            listed = next((other for other in self.entries if other.name == entry.name), None)
            if not self._holds(entry.name):
                continue
            try:
                found = checksum(self.path(entry))
            except (OSError, ValueError):
                continue
            if listed is not None and listed.checksum == found:
                continue  # the old file, still
            entry.checksum, entry.size = found, self.path(entry).stat().st_size
            self.entries = [*(other for other in self.entries if other is not listed), entry]
            self.run = entry.run
        self.announced = []

    def _write(self, *, durable: bool = True) -> None:
        content = {
            "format": FORMAT,
            "run": self.run,
            "checkpoints": [_item(entry) for entry in self.entries],
            **({"announced": [_item(entry) for entry in self.announced]} if self.announced else {}),
        }
        text = json.dumps(content, indent=1).encode()
        write_file(self.directory / NAME, lambda file: file.write(text), durable=durable)


def new_run() -> str:
    """A name for a run that no other has."""
    return uuid.uuid4().hex[:12]


def _item(entry: Entry) -> dict[str, Any]:
    item = asdict(entry)
    if entry.score is not None and not math.isfinite(entry.score):
        item["score"] = None  # JSON has no such numbers
    return item


def _entry(item: Mapping[str, Any]) -> Entry:
    known = {spec.name for spec in fields(Entry)}
    entry = Entry(**{key: value for key, value in item.items() if key in known})
    if not isinstance(entry.name, str) or not entry.name:
        raise ValueError("an entry without a name")
    return entry
