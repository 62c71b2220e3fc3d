"""The data of a run in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from leyden.adapted import own_state
from leyden.data.transfer import move_to_device
from leyden.hookspecs import hookspec
from leyden.hparams import HyperparametersMixin

if TYPE_CHECKING:
    from leyden.trainer import Trainer

D = TypeVar("D", bound="DataModule")


class DataModule(HyperparametersMixin):
    """Prepares data and makes loaders. Its loaders and transfer methods replace the module's.

    Hooks of :class:`leyden.hookspecs.Hooks` can be overridden, without the arguments ``trainer`` and ``module``.
    """

    trainer: Trainer | None = None
    """The Trainer of the running or the last run."""

    prepare_data_per_node: bool = True
    """Whether ``prepare_data`` runs once a node rather than once in all."""

    def prepare_data(self) -> None:
        """Downloads and the like, once a node; assign nothing to ``self`` here."""

    @hookspec
    def setup(self, stage: str) -> None:
        """Builds datasets, in every process; ``stage`` is ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``."""

    @hookspec
    def teardown(self, stage: str) -> None:
        """The end of a run."""

    @hookspec
    def on_exception(self, exception: BaseException) -> None:
        """The run failed."""

    def train_dataloader(self) -> Any:
        """Returns the training batches: a DataLoader, or any iterable of batches."""
        raise NotImplementedError

    def val_dataloader(self) -> Any:
        """Returns the validation batches, or a list of several such."""
        raise NotImplementedError

    def test_dataloader(self) -> Any:
        """Returns the test batches, or a list of several such."""
        raise NotImplementedError

    def predict_dataloader(self) -> Any:
        """Returns the batches to predict, or a list of several such."""
        raise NotImplementedError

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Returns the batch to move to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Returns the batch on ``device``."""
        return move_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Returns the batch to use, given it on the device."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """State to keep in checkpoints; empty means none."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""

    def __getstate__(self) -> dict[str, Any]:
        return own_state(self)

    @classmethod
    def load_from_checkpoint(
        cls: type[D],
        checkpoint_path: str,
        map_location: Any = None,
        weights_only: bool | None = None,
        allow: Iterable[Any] | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> D:
        """Builds the data module from the hyperparameters in a checkpoint, replaced or completed by ``kwargs``.

        Args:
            checkpoint_path: a file or a URL that fsspec knows.
            map_location: where tensors go, as for ``torch.load``; the CPU if not given.
            weights_only: True or None; a checkpoint is never unpickled.
            allow: classes and functions that the file may have as hyperparameters, see :func:`leyden.allow_rebuild`.
            kwargs: constructor arguments.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a checkpoint.
            TypeError: a constructor argument is missing, or a hyperparameter is of a class that is not allowed.
        """
        from leyden.checkpoint.build import build_datamodule_from_checkpoint

        return build_datamodule_from_checkpoint(cls, checkpoint_path, map_location, weights_only, allow, kwargs)

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Dataset[Any] | Sequence[Dataset[Any]] | Mapping[str, Dataset[Any]] | None = None,
        val_dataset: Dataset[Any] | Sequence[Dataset[Any]] | None = None,
        test_dataset: Dataset[Any] | Sequence[Dataset[Any]] | None = None,
        predict_dataset: Dataset[Any] | Sequence[Dataset[Any]] | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **loader_options: Any,
    ) -> DataModule:
        """A data module of existing datasets: training is shuffled, the rest is not; a list of datasets gives several loaders."""

        def loaders(dataset: Any, shuffle: bool) -> Any:
            if isinstance(dataset, Mapping):
                return {key: loaders(value, shuffle) for key, value in dataset.items()}
            if isinstance(dataset, Sequence):
                return [loaders(value, shuffle) for value in dataset]
            shuffle = shuffle and not isinstance(dataset, torch.utils.data.IterableDataset)
            return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers, **loader_options)

        datamodule = cls()
        given = {"train": train_dataset, "val": val_dataset, "test": test_dataset, "predict": predict_dataset}
        for stage, dataset in given.items():
            if dataset is not None:
                setattr(datamodule, f"{stage}_dataloader", lambda d=dataset, s=stage == "train": loaders(d, s))
        return datamodule
