"""Writes down who holds the memory, when it runs out or at a chosen step."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.messages import shown

from leyden_callbacks.arguments import check_int
from leyden_callbacks.out_of_memory import is_out_of_memory
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class MemorySnapshot(Callback):
    """Records allocations and saves them when the run is out of memory, and at ``at_step``.

    On a CUDA device it saves torch's allocations with their stacks as ``<dirpath>/memory-step<N>-rank<R>.pickle``, which
    https://docs.pytorch.org/memory_viz shows. On the CPU it saves Python's own (``tracemalloc.Snapshot.load`` reads the
    file), which do not include the data of tensors; recording those makes Python code about twice as slow.

    Args:
        dirpath: a folder; ``<trainer.log_dir>/memory`` if not given.
        at_step: save after so many optimizer steps too; None only when memory runs out.
        max_entries: events that are remembered on a CUDA device.
        frames: frames of each stack that are remembered on the CPU.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "memory_snapshot"

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        at_step: int | None = None,
        max_entries: int = 100_000,
        frames: int = 10,
    ) -> None:
        owner = type(self).__name__
        if dirpath is not None and not isinstance(dirpath, str | os.PathLike):
            raise TypeError(f"{owner}(dirpath={dirpath!r}): expected a path, got {shown(dirpath)}")
        if at_step is not None:
            check_int(owner, "at_step", at_step, 1)
        check_int(owner, "max_entries", max_entries, 1)
        check_int(owner, "frames", frames, 1)
        self.dirpath = dirpath
        self.at_step = at_step
        self.max_entries = max_entries
        self.frames = frames
        self.paths: list[str] = []
        """The files written in this run."""
        self._cuda = self._recording = False

    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        """Starts recording.

        Raises:
            RuntimeError: somebody else records Python's allocations already.
        """
        self.paths = []
        self._cuda = trainer.strategy.device.type == "cuda"
        if self._cuda:
            torch.cuda.memory._record_memory_history(max_entries=self.max_entries)
        elif tracemalloc.is_tracing():
            raise RuntimeError(f"{type(self).__name__}: tracemalloc is recording already; stop it, or leave out the callback")
        else:
            tracemalloc.start(self.frames)
        self._recording = True

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Saves after the chosen step."""
        if trainer.global_step == self.at_step and not self.paths:
            self._save(trainer)

    def on_exception(self, trainer: Trainer, module: Module, exception: BaseException) -> None:
        """Saves if memory ran out."""
        if self._recording and is_out_of_memory(exception):
            self._save(trainer)

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Stops recording."""
        if not self._recording:
            return
        self._recording = False
        if self._cuda:
            torch.cuda.memory._record_memory_history(enabled=None)
        else:
            tracemalloc.stop()

    def _save(self, trainer: Trainer) -> None:
        folder = Path(self.dirpath) if self.dirpath is not None else Path(trainer.log_dir) / "memory"
        folder.mkdir(parents=True, exist_ok=True)
        suffix = "pickle" if self._cuda else "tracemalloc"
        path = folder / f"memory-step{trainer.global_step}-rank{trainer.strategy.rank}.{suffix}"
        if self._cuda:
            torch.cuda.memory._dump_snapshot(str(path))  # type: ignore[no-untyped-call]  # torch has no types here
        else:
            tracemalloc.take_snapshot().dump(str(path))
        self.paths.append(str(path))
        say(trainer, f"a snapshot of the memory after step {trainer.global_step} was saved as {path}")
