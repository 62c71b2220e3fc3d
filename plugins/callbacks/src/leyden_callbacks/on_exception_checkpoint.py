"""Saves a checkpoint when a run fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from leyden import Callback, Terminated
from leyden.messages import shown

from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class OnExceptionCheckpoint(Callback):
    """Saves the state after the last step as ``<dirpath>/<filename>.ckpt`` when training raises, Ctrl-C included.

    What may be half of a step is not saved, and that is said: a second Ctrl-C, which stops at once, or an error out of
    ``optimizer.step()``.
    A run of several processes is not saved, for one process that failed cannot save without the others.

    Args:
        dirpath: a folder; it is made where it is missing.
        filename: without ``.ckpt``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is empty.
    """

    name = "on_exception_checkpoint"

    def __init__(self, dirpath: str | os.PathLike[str], filename: str = "on_exception") -> None:
        owner = type(self).__name__
        for argument, value in (("dirpath", dirpath), ("filename", filename)):
            message = f"{owner}({argument}={value!r}): expected a path, got {shown(value)}"
            if not isinstance(value, str | os.PathLike):
                raise TypeError(message)
            if not os.fspath(value):
                raise ValueError(message)
        self.dirpath = os.fspath(dirpath)
        self.filename = filename

    @property
    def ckpt_path(self) -> str:
        """The file that is written."""
        return str(Path(self.dirpath) / f"{self.filename}.ckpt")

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Refuses a folder that cannot be written before anything is lost.

        Raises:
            OSError: it cannot be made or written.
        """
        if stage != "fit" or not trainer.is_global_zero:
            return
        folder = Path(self.dirpath)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{self.filename}.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OSError(f"{type(self).__name__}(dirpath={self.dirpath!r}): it cannot be written: {error}") from error

    def on_exception(self, trainer: Trainer, module: Module, exception: BaseException) -> None:
        """Saves, if there is anything to lose."""
        if trainer.stage != "fit" or not trainer.global_step:
            return
        if trainer.world_size > 1:
            say(trainer, f"{type(self).__name__}: not saved, for one process cannot save without the others")
            return
        if isinstance(exception, KeyboardInterrupt | Terminated) and not trainer.received.agreed:
            say(trainer, f"{type(self).__name__}: not saved, for the run was stopped at once, perhaps in the middle of a step")
            return
        trainer.save_checkpoint(self.ckpt_path)
        say(trainer, f"the state after step {trainer.global_step} was saved as {self.ckpt_path}")
