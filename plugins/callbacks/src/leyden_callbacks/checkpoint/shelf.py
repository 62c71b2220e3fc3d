"""The checkpoints of a run in one folder: saved, listed in the folder's manifest, and deleted only if listed there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from leyden.checkpoint.files import explaining, remove_stale
from leyden.checkpoint.lock import DirectoryLock
from leyden.checkpoint.manifest import Entry, Manifest, new_run
from leyden.checkpoint.save import try_save

from leyden_callbacks.checkpoint.folder import Folder, is_remote

if TYPE_CHECKING:
    from leyden import Trainer


Keeps: TypeAlias = Callable[[], Collection[str]]


class NotSaved(OSError):
    """A checkpoint could not be written, which every rank knows, and what was there before still is.

    Args:
        text: why.
        overwritten: whether what stood under its name is gone all the same, for only a part of the new one was written.
    """

    def __init__(self, text: str, *, overwritten: bool = False) -> None:
        super().__init__(text)
        self.overwritten = overwritten


class NotListed(NotSaved):
    """A checkpoint is there, but the list of its folder could not be written; the next save tries again."""


class Shelf:
    """Callbacks of one Trainer that save to one folder share one. On ranks other than 0, and for URLs, nothing is listed."""

    def __init__(self, folder: Folder, trainer: Trainer) -> None:
        self.folder = folder
        self.trainer = trainer
        self.run = new_run()
        """The run in the manifest that saves here; one that is continued keeps its own."""
        self.users: list[Keeps] = []
        """Of each callback that saves here, what gives the names that it keeps."""
        self.guard = threading.RLock()  # a save in the background lists what it saved
        self.manifest: Manifest | None = None
        self._lock: DirectoryLock | None = None
        self._made: list[Path] = []
        self._saved: list[Entry] = []
        self._order = 0
        if trainer.is_global_zero and not is_remote(folder.path) and not trainer.fast_dev_run:
            self._open(Path(folder.path))

    @classmethod
    def of(cls, folder: Folder, trainer: Trainer, keeps: Keeps) -> Shelf:
        """The one of this Trainer and folder.

        Args:
            folder: where to.
            trainer: the run.
            keeps: gives the names that the callback which asks keeps.

        Raises:
            DirectoryTaken: another run saves there.
            OSError: nothing can be written there.
        """
        shelf = next((shelf for shelf in _OPEN if shelf.trainer is trainer and shelf.folder.path == folder.path), None)
        if shelf is None:
            shelf = cls(folder, trainer)
            _OPEN.append(shelf)
        shelf.users.append(keeps)
        return shelf

    def _open(self, path: Path) -> None:
        place = path
        while not place.exists() and place != place.parent:
            self._made.append(place)
            place = place.parent
        try:
            with explaining(path / "checkpoints.json"):  # the first file that this run would write there
                path.mkdir(parents=True, exist_ok=True)
                self._lock = DirectoryLock(path)
            remove_stale(path)
            self.manifest = Manifest.read(path)
            for entry in self.manifest.settle(self.trainer.checkpoint_io.checksum):
                self._delete(entry.name, entry.run)
        except BaseException:
            self._leave()
            raise

    def close(self, keeps: Keeps) -> None:
        """Lets the folder go, when the last user does; one that was made for nothing is deleted."""
        self.users.remove(keeps)
        if self.users:
            return
        _OPEN.remove(self)
        self._leave()

    def _leave(self) -> None:
        if self._lock is not None:
            self._lock.release()
        with contextlib.suppress(OSError):
            for directory in self._made:
                directory.rmdir()  # fails where there is something in it

    # ---- what is there ----

    def entries(self, owner: str, run: str) -> list[Entry]:
        """The checkpoints that a callback saved in this run, oldest first."""
        if self.manifest is None:
            return []
        return [entry for entry in reversed(self.manifest.of_run(run)) if entry.owner == owner]

    def is_own(self, name: str, step: int, owner: str) -> bool:
        """Whether a callback saved ``name`` in this run at ``step`` or, before the run went on from an older one, later."""
        if self.manifest is None:
            return False
        return any(
            entry.name == name and entry.run == self.run and entry.owner == owner and entry.step >= step
            for entry in self.manifest.entries
        )

    # ---- saving ----

    def save(self, entry: Entry, weights_only: bool, *, goes_on: bool = False) -> None:
        """Saves the state as it is; :meth:`commit` lists it.

        Args:
            entry: what it will be in the list.
            weights_only: whether to leave out what only training needs.
            goes_on: whether the run goes on where a rank cannot write it.

        Raises:
            NotSaved: on every rank, with ``goes_on``, one of them could not write it.
            OSError: it could not be written.
        """
        entry.run, entry.weights_only = self.run, weights_only
        entry.step, entry.epoch = self.trainer.global_step, self.trainer.current_epoch
        entry.order, entry.time = self._next_order(), time.time()
        self.trainer.checkpoint_io.after_save(lambda: self._announce(entry))
        path = self.folder.of(entry.name)
        try:
            failure = try_save(self.trainer, path, weights_only) if goes_on else None
            if not goes_on:
                self.trainer.save_checkpoint(path, weights_only)
        except BaseException:
            self._take_back(entry)
            raise
        if failure is not None:
            self._take_back(entry)
            if failure.written and self.trainer.is_global_zero:
                with contextlib.suppress(OSError):
                    self.trainer.checkpoint_io.remove(path)
            raise NotSaved(failure.text, overwritten=failure.written)
        self._saved.append(entry)

    def _take_back(self, entry: Entry) -> None:
        with self.guard, contextlib.suppress(OSError):
            if self.manifest is not None:
                self.manifest.forget(entry.name)

    def _next_order(self) -> int:
        listed = self.manifest.next_order() if self.manifest is not None else 1
        self._order = max(self._order + 1, listed)
        return self._order

    def _announce(self, entry: Entry) -> None:
        # If there is no space for this there is none for the checkpoint, whose error says more.
        with self.guard, contextlib.suppress(OSError):
            if self.manifest is not None:
                self.manifest.announce(entry)

    def link(self, entry: Entry, target: str, *, goes_on: bool = False) -> None:
        """Makes ``entry`` a link to ``target``, which was just saved; arguments and errors as for :meth:`save`."""
        entry.run = self.run
        entry.step, entry.epoch = self.trainer.global_step, self.trainer.current_epoch
        self._on_rank_0(lambda: self.folder.link(entry.name, target), NotSaved, goes_on=goes_on)
        entry.order, entry.time = self._next_order(), time.time()
        self._saved.append(entry)

    def commit(self, drop: Sequence[str] = (), elsewhere: Entry | None = None, *, goes_on: bool = False) -> None:
        """Lists what was saved since the last time, and then deletes what is not kept any more.

        Args:
            drop: names of this run that their callback does not keep; one that another callback keeps stays.
            elsewhere: the best checkpoint, if it is one of another folder.
            goes_on: whether the run goes on where rank 0 cannot do so; every rank is told.

        Raises:
            NotListed: on every rank, with ``goes_on``, the list could not be written or a file not be deleted.
            OSError: likewise, without.
        """
        saved, self._saved = self._saved, []
        if saved or drop:
            self._on_rank_0(lambda: self._publish(saved, list(drop), elsewhere), NotListed, goes_on=goes_on)

    def withdraw(self) -> None:
        """Forgets what was saved since :meth:`commit`: it is not there after all."""
        self._saved = []

    def _on_rank_0(self, function: Callable[[], None], failure: type[NotSaved], *, goes_on: bool) -> None:
        """Has rank 0 do something when what was saved is there; an error of it is everybody's where the run goes on."""
        text = ""
        if self.trainer.is_global_zero:
            try:
                self.trainer.checkpoint_io.after_save(function)
            except OSError as error:
                if not goes_on:
                    raise
                text = error.strerror or str(error)
        if goes_on:
            text = self.trainer.strategy.broadcast(text)
        if text:
            raise failure(text)

    def _publish(self, saved: list[Entry], drop: list[str], elsewhere: Entry | None) -> None:
        if self.manifest is None:
            for name in drop:  # of a URL: only what this process saved is in ``drop``
                self.trainer.checkpoint_io.remove(self.folder.of(name))
            return
        for entry in saved:
            path = Path(self.folder.of(entry.name))
            with contextlib.suppress(OSError, ValueError):  # another checkpoint_io may write a directory
                entry.size = path.stat().st_size
                entry.checksum = self.trainer.checkpoint_io.checksum(path)
        if elsewhere is not None:
            elsewhere.run = self.run
            saved.append(elsewhere)
        with self.guard:
            kept = {name for keeps in self.users for name in keeps()}
            deletable = [name for name in drop if name not in kept and self.manifest.may_delete(name, self.run)]
            self.manifest.record(saved, deletable, self.run)
            for entry in self.manifest.entries:  # those too that could not be deleted before
                if entry.kind == "obsolete" and entry.run == self.run:
                    self._delete(entry.name, self.run)

    def _delete(self, name: str, run: str) -> None:
        assert self.manifest is not None, "there is a list of what may be deleted"
        if self.manifest.may_delete(name, run):
            self.trainer.checkpoint_io.remove(self.folder.of(name))


_OPEN: list[Shelf] = []
