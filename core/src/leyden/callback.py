"""What one wants to happen beside training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from leyden.component import Component
from leyden.hookspecs import Hooks

if TYPE_CHECKING:
    from leyden.module import Module
    from leyden.trainer import Trainer


class Callback(Hooks, Component):
    """Answers hooks; override those of :class:`leyden.hookspecs.Hooks` that you need.

    A method that is not overridden costs a run nothing. Any object with a hook's name among its methods is a callback;
    this class adds state that checkpoints keep.
    """

    group = "leyden.callbacks"
    kind = "callback"

    role: ClassVar[str] = ""
    """What it is to the Trainer: ``"checkpointing"``, ``"progress_bar"``, ``"model_summary"`` answer its ``enable_*`` switches,
    ``"early_stopping"`` is found as ``trainer.early_stopping_callback``."""

    takes_state_in_evaluation: ClassVar[bool] = True
    """Whether ``validate``, ``test`` and ``predict`` with a ``ckpt_path`` give it its state too, and not ``fit`` alone. Not where
    that is what a fit has saved or decided, which the state of an older checkpoint would undo."""

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint; unique among the stateful callbacks of a run.

        A class of which several instances make sense overrides it, adding the options that tell them apart.
        """
        return type(self).__qualname__

    def state_dict(self) -> dict[str, Any]:
        """State to keep in checkpoints: tensors, numbers, strings, lists and dicts. Empty means none."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""

    def resolve_checkpoint(self, which: str) -> str | None:
        """The path that ``ckpt_path="best"`` or ``"last"`` stands for, if this callback knows; the first answer is taken."""
        return None

    def outline(self, trainer: Trainer) -> str | None:
        """What this callback will do when, in a line such as ``"saves a checkpoint every 2 epochs"``; None says nothing.

        Asked before the first step of a fit whose outline is printed.
        """
        return None

    def save_before_stop(self, trainer: Trainer) -> str | None:
        """Called between two steps when a signal ends the run: a callback that saves checkpoints saves the state as it is.

        Returns:
            The path of a checkpoint of this state, one that was there already included; None if there is none.
        """
        return None

    def validate_run(self, trainer: Trainer, module: Module) -> None:
        """Called once before training, after the sanity check, to refuse what cannot work.

        ``trainer.metrics.known_keys()`` then holds every key that validation logged.

        Raises:
            ValueError: for instance a monitor that nobody logs.
        """
