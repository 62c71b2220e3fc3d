"""What a checkpoint keeps of hyperparameters."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from leyden.checkpoint.allowed import import_path
from leyden.checkpoint.plain import NotPlain
from leyden.checkpoint.rebuild import Recipe, to_data
from leyden.hparams import AttributeDict, HyperparametersMixin
from leyden.messages import listed, warn

if TYPE_CHECKING:
    from leyden.trainer import Trainer

_LIVE = (nn.Module, Dataset, DataLoader)
"""What a module or a data module is often made of: weights are kept anyway, and data is not a checkpoint's to keep."""


def check_hyperparameters(trainer: Trainer) -> None:
    """Refuses, before the first step, hyperparameters that a checkpoint of this run could not hold.

    Modules, data sets and loaders are left out with one warning. Nothing is refused where the run writes no checkpoints, or
    where the Trainer's ``refuses_hyperparameters`` is False.

    Raises:
        TypeError: one is neither data nor made of data and a name to find it by.
    """
    if not any(getattr(callback, "role", "") == "checkpointing" for callback in trainer.callbacks):
        return
    for owner in (trainer.module, trainer.datamodule):
        if owner is None or not owner.hparams:
            continue
        _, _, left_out = _gathered(owner)
        for name, error in left_out.items():
            if trainer.refuses_hyperparameters and not isinstance(error.value, _LIVE):
                raise TypeError(
                    f"{type(owner).__name__}: hyperparameter {name!r} cannot be kept in a checkpoint: {error}{_hint(error)}; "
                    f"leave it out with save_hyperparameters(ignore=[{name!r}]) and pass it to load_from_checkpoint() again"
                )
        _report(owner, left_out, trainer.is_global_zero)


def add_hyperparameters(checkpoint: dict[str, Any], owner: HyperparametersMixin, key: str, name_key: str) -> None:
    """Puts ``owner``'s hyperparameters under ``key``, and what turns them back under ``leyden``.

    What cannot be kept is left out, with a warning that names it unless there has been one: a save is no time to stop a run.
    """
    if not owner.hparams:
        return
    kept, recipes, left_out = _gathered(owner)
    checkpoint[key] = kept
    if owner._hparams_name:
        checkpoint[name_key] = owner._hparams_name
    if recipes:
        checkpoint["leyden"].setdefault("rebuild", {})[key] = recipes
    trainer = getattr(owner, "_trainer", None) or getattr(owner, "trainer", None)
    _report(owner, left_out, trainer is None or trainer.is_global_zero)


def _gathered(owner: HyperparametersMixin) -> tuple[dict[str, Any], list[Recipe], dict[str, NotPlain]]:
    kept: dict[str, Any] = {}
    recipes: list[Recipe] = []
    left_out: dict[str, NotPlain] = {}
    for name, value in owner.hparams.items():
        try:
            kept[name], more = to_data(value, (name,))
        except NotPlain as error:
            left_out[name] = error
        else:
            recipes += more
    given = owner._hparams_given
    if owner._hparams_name and given is not None:
        simple = {dict: "dict", Namespace: "Namespace", AttributeDict: "AttributeDict"}.get(given)
        recipes.append({"at": [], "kind": simple} if simple else {"at": [], "kind": "mapping", "class": import_path(given)})
    return kept, recipes, left_out


def _hint(error: NotPlain) -> str:
    if callable(error.value) and not isinstance(error.value, type) and hasattr(error.value, "__name__"):
        return " without a name of its own at the top of a module"
    return ""


def _report(owner: HyperparametersMixin, left_out: dict[str, NotPlain], speaks: bool) -> None:
    new = [name for name in left_out if name not in owner._hparams_reported]
    if not new:
        return
    owner._hparams_reported = (*owner._hparams_reported, *new)
    if not speaks:
        return
    warn(
        "LY010",
        f"{type(owner).__name__}: hyperparameters {listed(new)} are not plain data and are not in the checkpoint; "
        f"pass them to load_from_checkpoint(), and silence this with save_hyperparameters(ignore=[{listed(new)}])",
    )
