"""Writes checkpoints in the background, while training goes on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from leyden import CheckpointIO, hookimpl
from leyden.checkpoint_io import StrPath, local_path
from leyden.messages import add_note
from leyden.plugins import resolve

from leyden_checkpoint.snapshot import Snapshots


class AsyncCheckpointIO(CheckpointIO):
    """Copies what is to be saved and leaves the writing to a thread; training waits for the copy only.

    One checkpoint is written at a time: a save that comes before the last one is there waits for it. A write that fails raises
    at the end of the next training step, at the next save or at the end of the run, whichever comes first; what is listed and
    deleted after a save is left as it was. The end of a run waits until everything is there.

    Args:
        checkpoint_io: what writes, as an object or a name; ``torch.save`` to one file if not given.
    """

    name = "async"

    def __init__(self, checkpoint_io: CheckpointIO | str | None = None) -> None:
        self.inner: CheckpointIO = CheckpointIO() if checkpoint_io is None else resolve(CheckpointIO, checkpoint_io)
        self._start()

    def _start(self) -> None:
        self._snapshots = Snapshots()
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._path = ""  # of what was written last

    def __getstate__(self) -> dict[str, Any]:
        return {"inner": self.inner}  # another process has threads of its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.inner = state["inner"]
        self._start()

    # ---- saving ----

    def save(self, checkpoint: dict[str, Any], path: StrPath) -> None:
        """Copies ``checkpoint``, which may change as soon as this returns, and has it written.

        Raises:
            OSError: an earlier one could not be written.
        """
        self.wait()
        self.check()
        copied = self._snapshots.take(checkpoint)

        def write() -> None:
            self._path = local_path(path)
            self._snapshots.ready()
            self.inner.save(copied, path)

        self._submit(write)

    def after_save(self, function: Callable[[], None]) -> None:
        """Has ``function`` called in the thread that writes, when what was saved before is there; not if that failed."""
        self._submit(function)

    def _submit(self, job: Callable[[], None]) -> None:
        with self._changed:
            self._jobs.append(job)
            if self._thread is None:
                # It ends when there is nothing to do, so that none is left to those who never come to teardown().
                self._thread = threading.Thread(target=self._work, name="leyden checkpoint")
                self._thread.start()

    def _work(self) -> None:
        time.sleep(1e-3)  # a new thread keeps the interpreter for 5 ms otherwise, and save() with it
        while True:
            with self._changed:
                if not self._jobs:
                    self._thread = None
                    self._changed.notify_all()
                    return
                job = self._jobs[0]
            try:
                if self._failure is None:
                    job()
            except BaseException as error:
                self._failure = error
            with self._changed:
                self._jobs.popleft()
                self._changed.notify_all()

    def wait(self) -> None:
        """Waits until everything saved is there or failed; in the thread that writes, where that would be for ever, not."""
        if threading.current_thread() is self._thread:
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs and self._thread is None)

    def check(self) -> None:
        """Raises what a write failed with, once.

        Raises:
            OSError: as a rule; whatever it was.
        """
        if self._failure is not None:
            self.wait()  # what comes after it is passed over, and must not be taken for something later
            failure, self._failure = self._failure, None
            if any(goes_on(failure, self._path) for goes_on in self.on_failure):
                return
            add_note(failure, "it was raised in the background, by an earlier save")
            raise failure

    @hookimpl(specname="on_train_batch_end")
    def _surface(self) -> None:
        self.check()

    def teardown(self) -> None:
        """Waits until everything saved is there.

        Raises:
            OSError: something could not be written and nobody was told yet.
        """
        self.wait()
        self.check()
        self.inner.teardown()

    # ---- reading ----

    def load(self, path: StrPath, map_location: Any = "cpu") -> dict[str, Any]:
        """Reads a checkpoint, when everything saved is there."""
        self.wait()
        return self.inner.load(path, map_location)

    def checksum(self, path: StrPath) -> str:
        """The checksum of a file that is there."""
        return self.inner.checksum(path)

    def verify(self, path: StrPath) -> None:
        """Compares a file with its checksums, when everything saved is there."""
        self.wait()
        self.inner.verify(path)

    def remove(self, path: StrPath) -> None:
        """Deletes a checkpoint, when everything saved is there."""
        self.wait()
        self.inner.remove(path)
