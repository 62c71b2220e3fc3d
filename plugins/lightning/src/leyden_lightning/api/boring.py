"""The smallest modules and data sets, which people write tests with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import leyden
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset


class RandomDataset(Dataset[Tensor]):
    """``length`` rows of ``size`` normal numbers."""

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index]

    def __len__(self) -> int:
        return self.len


class RandomDictDataset(Dataset[dict[str, Tensor]]):
    """``{"a": row, "b": 2 * row}`` for ``length`` rows of ``size`` normal numbers."""

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        a = self.data[index]
        return {"a": a, "b": a + a}

    def __len__(self) -> int:
        return self.len


class RandomIterableDataset(IterableDataset[Tensor]):
    """A stream of ``count`` rows of ``size`` normal numbers."""

    def __init__(self, size: int, count: int) -> None:
        self.count = count
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.count):
            yield torch.randn(self.size)


class RandomIterableDatasetWithLen(RandomIterableDataset):
    """The same, and it says how long it is."""

    def __len__(self) -> int:
        return self.count


class BoringModel(leyden.Module):
    """One linear layer of 32 inputs and 2 outputs that learns to say ones; steps return dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes ``(..., 32)`` and ``(..., 2)``."""
        result: Tensor = self.layer(x)
        return result

    def loss(self, preds: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean squared distance to ``labels``, or to ones."""
        return functional.mse_loss(preds, torch.ones_like(preds) if labels is None else labels)

    def step(self, batch: Any) -> Tensor:
        """The loss of a batch."""
        return self.loss(self(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """``{"loss": loss}``."""
        return {"loss": self.step(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """``{"x": loss}``."""
        return {"x": self.step(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """``{"y": loss}``."""
        return {"y": self.step(batch)}

    def configure_optimizers(self) -> Any:
        """SGD, whose learning rate falls each epoch."""
        optimizer = torch.optim.SGD(self.layer.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomDataset(32, 64))

    def val_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomDataset(32, 64))

    def test_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomDataset(32, 64))

    def predict_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomDataset(32, 64))


class ManualOptimBoringModel(BoringModel):
    """The same with manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Steps by hand."""
        optimizer = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class BoringDataModule(leyden.DataModule):
    """Loaders of 64 batches of one row, made in ``setup``."""

    def __init__(self) -> None:
        self.random_full: RandomDataset | None = None

    def prepare_data(self) -> None:
        """Makes the rows."""
        self.random_full = RandomDataset(32, 64 * 4)

    def setup(self, stage: str) -> None:
        """Takes a part for each stage."""
        if self.random_full is None:
            self.random_full = RandomDataset(32, 64 * 4)
        parts = [Subset(self.random_full, range(64 * index, 64 * (index + 1))) for index in range(4)]
        self.random_train, self.random_val, self.random_test, self.random_predict = parts

    def train_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_train)

    def val_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_val)

    def test_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_test)

    def predict_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_predict)


class BoringDataModuleNoLen(leyden.DataModule):
    """Loaders of streams that do not say how long they are."""

    def train_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomIterableDataset(32, 64))

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class IterableBoringDataModule(BoringDataModuleNoLen):
    """The same by Lightning's other name."""


class DemoModel(leyden.Module):
    """One linear layer whose size is a hyperparameter."""

    def __init__(self, out_dim: int = 10, learning_rate: float = 0.02) -> None:
        super().__init__()
        self.l1 = nn.Linear(32, out_dim)
        self.learning_rate = learning_rate

    def forward(self, x: Tensor) -> Tensor:
        """Shapes ``(batch, ...)`` with 32 numbers each, and ``(batch, out_dim)``."""
        return torch.relu(self.l1(x.view(x.size(0), -1)))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The mean of the outputs, to be made small."""
        return {"loss": self(batch).sum()}

    def configure_optimizers(self) -> Any:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class Net(nn.Module):
    """A linear layer of 32 inputs."""

    def __init__(self, out_dim: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(32, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes ``(..., 32)`` and ``(..., out_dim)``."""
        result: Tensor = self.layer(x)
        return result
