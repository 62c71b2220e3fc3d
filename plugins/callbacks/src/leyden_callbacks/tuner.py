"""Finds learning rates and batch sizes for a Trainer, without callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leyden import DataModule

from leyden_callbacks.batch_size_finder import Search, refuse_loaders, scale_batch_size
from leyden_callbacks.learning_rate_finder import RangeTest, learning_rate_attribute, range_test, set_learning_rate

if TYPE_CHECKING:
    from leyden import Module, Trainer


class Tuner:
    """``Tuner(trainer).lr_find(module)`` and ``Tuner(trainer).scale_batch_size(module)``.

    Everything is tried on copies: model, optimizers, random states and loaders are afterwards as before, save the attribute
    that holds the answer.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def lr_find(
        self,
        model: Module,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        method: str = "fit",
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        num_training: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> RangeTest:
        """Makes a range test, and sets the module's learning rate to what it suggests.

        Args:
            model: the module.
            train_dataloaders: as for ``fit``.
            val_dataloaders: not read: a range test only trains.
            dataloaders: not for ``"fit"``, the only method.
            datamodule: as for ``fit``.
            method: ``"fit"``.
            min_lr: the first learning rate.
            max_lr: the last one.
            num_training: optimizer steps.
            mode: ``"exponential"`` or ``"linear"``, how it grows.
            early_stop_threshold: ends the test when the loss is so many times the lowest; None never does.
            update_attr: whether to set the module's learning rate.
            attr_name: the name of that attribute; ``lr`` or ``learning_rate`` if not given.

        Raises:
            AttributeError: the module has no learning rate to set.
            TypeError: an argument has the wrong type.
            ValueError: an argument is out of range.
        """
        if method != "fit" or dataloaders is not None:
            raise ValueError(f"lr_find(method={method!r}): a learning rate matters to 'fit' only; pass train_dataloaders")
        if isinstance(train_dataloaders, DataModule):
            train_dataloaders, datamodule = None, train_dataloaders
        name = learning_rate_attribute(model, attr_name, "lr_find") if update_attr else ""
        found = range_test(
            self.trainer,
            model,
            train_dataloaders,
            datamodule,
            min_lr=min_lr,
            max_lr=max_lr,
            num_training=num_training,
            mode=mode,
            early_stop_threshold=early_stop_threshold,
            owner="lr_find",
        )
        rate = found.suggestion()
        if update_attr and rate is not None:
            set_learning_rate(model, name, rate)
        return found

    def scale_batch_size(
        self,
        model: Module,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        method: str = "fit",
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> int:
        """Finds the largest batch size that fits into memory, and sets it on the module and the data module.

        Args:
            model: the module.
            train_dataloaders: a data module; loaders have their batch size already.
            val_dataloaders: likewise none.
            dataloaders: likewise none.
            datamodule: as for ``fit``.
            method: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``: what is to fit.
            mode: as for :class:`~leyden_callbacks.BatchSizeFinder`, like the arguments below.
            steps_per_trial: likewise.
            init_val: likewise.
            max_trials: likewise.
            batch_arg_name: likewise.
            margin: likewise.
            max_val: likewise.

        Raises:
            AttributeError: neither the module nor the data module has a batch size.
            TypeError: an argument has the wrong type.
            ValueError: an argument is out of range, or loaders are given.
            RuntimeError: not even one sample fits.
        """
        if isinstance(train_dataloaders, DataModule):
            train_dataloaders, datamodule = None, train_dataloaders
        refuse_loaders("scale_batch_size()", batch_arg_name, train_dataloaders, val_dataloaders, dataloaders)
        search = Search(mode, steps_per_trial, init_val, max_trials, margin, max_val)
        return scale_batch_size(
            self.trainer, model, datamodule, search, stage=method, batch_arg_name=batch_arg_name, owner="scale_batch_size"
        )
