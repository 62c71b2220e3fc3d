"""Where the numbers of a run go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leyden.component import Component

if TYPE_CHECKING:
    from leyden.module import Module
    from leyden.trainer import Trainer


class Logger(Component):
    """Writes nowhere; subclasses override what differs.

    The Trainer calls a logger on rank 0 only, and opens nothing before the first call that needs it. Importing the module
    of a logger does not import its client.
    """

    group = "leyden.loggers"
    kind = "logger"
    name = "none"

    def connect(self, trainer: Trainer) -> None:
        """Called once when the Trainer is built, in the order of ``trainer.loggers``; opens and creates nothing.

        A logger that was given no directory takes ``trainer.default_root_dir``; one that would write under the same root as
        a logger before it shares that one's run directory.
        """

    @property
    def log_dir(self) -> str | None:
        """The directory of this run, made or not; None if it has none. The first logger's is the run's."""
        return None

    def follow(self, log_dir: str) -> None:
        """Called on ranks other than 0 when a run of several processes begins, with this logger's ``log_dir`` on rank 0.

        One that chooses its directory when it is first needed takes this one.
        """

    @property
    def experiment(self) -> Any:
        """The client's own object, opened on first use; None if there is none."""
        return None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Takes one record.

        Args:
            metrics: values by key; always with ``"epoch"``.
            step: the index of the optimizer step the record belongs to, from 0; never less than the one before.
        """

    def log_hyperparams(self, params: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Takes the hyperparameters of the module and the data module, at the start of each run."""

    def log_graph(self, module: Module) -> None:
        """Asked at the start of each run; a logger that draws graphs draws ``module`` from its ``example_input_array``."""

    def after_save_checkpoint(self, path: str) -> None:
        """A checkpoint was written to ``path``; called by whichever thread wrote it."""

    def save(self) -> None:
        """Puts what was taken so far where another process can read it."""

    def finalize(self, status: str) -> None:
        """Ends the run and closes files; ``status`` is ``"success"``, ``"failed"`` or ``"interrupted"``.

        A later run of the same Trainer may log again; the logger then continues where it was.
        """
