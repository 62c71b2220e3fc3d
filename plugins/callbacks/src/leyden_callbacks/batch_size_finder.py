"""Finds the largest batch size that fits into memory before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.messages import did_you_mean, shown
from leyden.trial import trial

from leyden_callbacks.arguments import check_choice, check_int, check_number
from leyden_callbacks.out_of_memory import free_memory, is_out_of_memory
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import DataModule, Module, Trainer

_STAGES = ("fit", "validate", "test", "predict")


@dataclass(frozen=True)
class Search:
    """How to look for a batch size; :class:`BatchSizeFinder` says what each part means."""

    mode: str
    steps_per_trial: int
    init_val: int
    max_trials: int
    margin: float
    max_val: int

    def check(self, owner: str) -> None:
        """Raises TypeError or ValueError, on behalf of ``owner``, if batch sizes cannot be tried so."""
        check_choice(owner, "mode", self.mode, ("power", "binsearch"))
        check_int(owner, "steps_per_trial", self.steps_per_trial, 1)
        check_int(owner, "init_val", self.init_val, 1)
        check_int(owner, "max_trials", self.max_trials, 1)
        check_number(owner, "margin", self.margin, 0)
        if self.margin >= 1:
            raise ValueError(f"{owner}(margin={self.margin!r}): expected a fraction below 1")
        check_int(owner, "max_val", self.max_val, 1)

    def largest(self, fits: Callable[[int], bool]) -> int:
        """The largest number for which ``fits`` is true, as far as it was asked.

        Raises:
            RuntimeError: not even 1 fits.
        """
        trials, size, good, bad = 0, min(self.init_val, self.max_val), 0, self.max_val + 1
        while trials < self.max_trials:
            trials += 1
            if fits(size):
                good = size
                if size >= self.max_val:
                    break
            else:
                bad = size
            if good and bad <= self.max_val:
                if self.mode == "power" or bad - good <= max(1, int(good * self.margin)):
                    break
                size = (good + bad) // 2
            else:
                size = min(size * 2, self.max_val) if good else size // 2
                if not size:
                    raise RuntimeError("out of memory with a batch of one sample")
        if not good:
            raise RuntimeError(
                f"out of memory with a batch of {bad} samples; allow more than max_trials={self.max_trials}, or begin lower"
            )
        if self.mode == "binsearch" and self.margin and bad <= self.max_val:
            return max(1, int(good * (1 - self.margin)))
        return good


def scale_batch_size(
    trainer: Trainer,
    module: Module,
    datamodule: DataModule | None,
    search: Search,
    *,
    stage: str = "fit",
    batch_arg_name: str,
    owner: str,
) -> int:
    """Sets the batch size to the largest that fits, after a few steps on copies with one after the other.

    Returns:
        That batch size; no larger than the data set.

    Raises:
        AttributeError: neither the module nor the data module has a batch size.
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
        RuntimeError: not even one sample fits.
    """
    check_choice(owner, "method", stage, _STAGES)
    search.check(owner)
    batch_size_owner(module, datamodule, batch_arg_name, owner)
    loader = {"fit": "train", "validate": "val"}.get(stage, stage)
    seen: dict[int, bool] = {}
    most, steps = search.max_val, search.steps_per_trial

    def fits(size: int) -> bool:
        nonlocal most
        size = min(size, most)
        if size in seen:
            return seen[size]
        limits = {f"limit_{'val' if stage == 'validate' else stage}_batches": steps} if stage != "fit" else {}
        arguments: dict[str, Any] = {"datamodule": datamodule, "max_steps": steps, "max_epochs": -1, **limits}
        error: Exception | None = None
        try:
            with trial(trainer, module, **arguments) as (other, copied, data):
                set_batch_size(copied, data, batch_arg_name, size)
                if stage in ("validate", "test"):
                    getattr(other, stage)(copied, datamodule=data, verbose=False)
                else:
                    getattr(other, stage)(copied, datamodule=data)
                found = getattr(other, f"{loader}_dataloader{'' if stage == 'fit' else 's'}", None)
                dataset = getattr(found, "dataset", None)
                if dataset is not None and hasattr(dataset, "__len__"):
                    most = max(1, min(most, len(dataset)))
        except Exception as raised:
            if not is_out_of_memory(raised):
                raise
            error = raised.with_traceback(None)  # which holds the tensors of the failed step
        fitted = error is None
        if not fitted:
            del error
            free_memory()
        if trainer.world_size > 1:  # what does not fit on one device is too large for all
            agreed = trainer.strategy.all_reduce(torch.tensor([int(fitted), most]), "min")
            fitted, most = bool(agreed[0]), int(agreed[1])
        seen[size] = fitted
        return fitted

    size = min(search.largest(fits), most)
    set_batch_size(module, datamodule, batch_arg_name, size)
    return size


def refuse_loaders(owner: str, batch_arg_name: str, *loaders: Any) -> None:
    """Raises ValueError if any of these is not None: what the user built has its batch size already."""
    if any(loader is not None for loader in loaders):
        raise ValueError(
            f"{owner} cannot change the batch size of a loader that you pass; write the loaders in the module or a data "
            f"module, with batch_size=self.{batch_arg_name}"
        )


def batch_size_owner(module: Module, datamodule: DataModule | None, name: str, where: str) -> None:
    """Refuses a module and a data module neither of which has a batch size.

    Raises:
        AttributeError: with the names there are.
    """
    owners = [owner for owner in (datamodule, module) if owner is not None]
    if any(hasattr(owner, name) or name in getattr(owner, "hparams", {}) for owner in owners):
        return
    known = [key for owner in owners for key in (*getattr(owner, "hparams", {}), *vars(owner)) if not key.startswith("_")]
    names = " and ".join(type(owner).__name__ for owner in owners)
    raise AttributeError(
        f"{where}: {names} has no {name!r} to set{did_you_mean(name, known)}; its loaders must be made in train_dataloader() "
        f"with batch_size=self.{name}"
    )


def set_batch_size(module: Module, datamodule: DataModule | None, name: str, size: int) -> None:
    """Sets it wherever the two have it."""
    for owner in (module, datamodule):
        if owner is None:
            continue
        if hasattr(owner, name):
            setattr(owner, name, size)
        if name in getattr(owner, "hparams", {}):
            owner.hparams[name] = size


class BatchSizeFinder(Callback):
    """Tries batch sizes on copies before a fit, and trains with the largest that fits.

    The module or the data module reads it from ``self.batch_size`` in its ``train_dataloader``. A run that goes on from a
    checkpoint keeps its batch size.

    With several processes each tries by itself, so that the buffers in which gradients are exchanged are not counted, and all
    train with the largest size that fits everywhere.

    Args:
        mode: ``"power"`` doubles until memory runs out; ``"binsearch"`` then looks between the last two.
        steps_per_trial: optimizer steps with each batch size.
        init_val: the first batch size.
        max_trials: how many batch sizes to try at most.
        batch_arg_name: the attribute of the module or data module.
        margin: ``"binsearch"`` stays this fraction below what just fits.
        max_val: no batch size above it is tried.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "batch_size_finder"

    def __init__(
        self,
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> None:
        owner = type(self).__name__
        self.search = Search(mode, steps_per_trial, init_val, max_trials, margin, max_val)
        self.search.check(owner)
        if not isinstance(batch_arg_name, str):
            raise TypeError(f"{owner}(batch_arg_name={batch_arg_name!r}): expected a name, got {shown(batch_arg_name)}")
        self.batch_arg_name = batch_arg_name
        self.optimal_batch_size: int | None = None
        """What was found for the last fit."""

    def state_dict(self) -> dict[str, Any]:
        """What was found."""
        return {"optimal_batch_size": self.optimal_batch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.optimal_batch_size = state_dict["optimal_batch_size"]

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Tries batch sizes, before any loader is made.

        Raises:
            ValueError: loaders were given to ``fit``, whose batch size cannot be changed.
        """
        if stage != "fit" or trainer.ckpt_path is not None or trainer.fast_dev_run:
            return
        owner = type(self).__name__
        refuse_loaders(owner, self.batch_arg_name, trainer.given_train)
        self.optimal_batch_size = scale_batch_size(
            trainer, module, trainer.datamodule, self.search, batch_arg_name=self.batch_arg_name, owner=owner
        )
        say(trainer, f"the batch size is {self.optimal_batch_size}, the largest that was found to fit")
