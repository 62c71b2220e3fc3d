"""The types of Lightning's annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypedDict, runtime_checkable

import torch
from leyden.optim.configure import SchedulerConfig as LRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

__all__ = ["LRScheduler", "LRSchedulerConfig", "ReduceLROnPlateau"]

STEP_OUTPUT: TypeAlias = Tensor | Mapping[str, Any] | None
EPOCH_OUTPUT: TypeAlias = list[Any]
TRAIN_DATALOADERS: TypeAlias = Any
EVAL_DATALOADERS: TypeAlias = Any
_METRIC: TypeAlias = Any
_METRIC_COLLECTION: TypeAlias = Any
_PATH: TypeAlias = str | os.PathLike[str]
_DEVICE: TypeAlias = torch.device | str | int
_MAP_LOCATION_TYPE: TypeAlias = _DEVICE | Callable[[Any, str], Any] | Mapping[Any, Any] | None
_OUT_DICT: TypeAlias = dict[str, Tensor]
_EVALUATE_OUTPUT: TypeAlias = list[dict[str, float]]
_PREDICT_OUTPUT: TypeAlias = list[Any]
ArgsType: TypeAlias = list[str] | dict[str, Any] | None
OptimizerCallable: TypeAlias = Callable[[Any], Optimizer]
LRSchedulerCallable: TypeAlias = Callable[[Optimizer], Any]
LRSchedulerTypeUnion: TypeAlias = LRScheduler | ReduceLROnPlateau
LRSchedulerPLType: TypeAlias = LRSchedulerTypeUnion
LRSchedulerType: TypeAlias = type[LRScheduler] | type[ReduceLROnPlateau]
LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
_LRScheduler = LRScheduler


class LRSchedulerConfigType(TypedDict, total=False):
    """A scheduler and when it steps, as ``configure_optimizers`` returns it."""

    scheduler: Any
    name: str | None
    interval: str
    frequency: int
    reduce_on_plateau: bool
    monitor: str | None
    strict: bool


class OptimizerConfig(TypedDict):
    """An optimizer alone, as ``configure_optimizers`` returns it."""

    optimizer: Optimizer


class OptimizerLRSchedulerConfig(TypedDict):
    """An optimizer with its scheduler, as ``configure_optimizers`` returns it."""

    optimizer: Optimizer
    lr_scheduler: Any


OptimizerLRScheduler: TypeAlias = (
    Optimizer | Sequence[Optimizer] | tuple[Sequence[Optimizer], Sequence[Any]] | Mapping[str, Any] | None
)


@runtime_checkable
class Steppable(Protocol):
    """What has a ``step``."""

    def step(self, closure: Any = None) -> Any:
        """One update."""


@runtime_checkable
class Optimizable(Steppable, Protocol):
    """What is used like an optimizer."""

    param_groups: list[dict[Any, Any]]

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Clears the gradients."""
