"""Modules and data small enough to train in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from leyden.datamodule import DataModule
from leyden.module import Module


class RandomData(Dataset[tuple[Tensor, Tensor]]):
    """``length`` samples ``(x, y)`` of 8 features and one of 2 classes, the same for the same ``seed``."""

    def __init__(self, length: int = 16, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(length, 8, generator=generator)
        self.y = (self.x.sum(dim=1) > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


class _Loaders:
    """Four batches to train on, two for every other stage."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomData(16), batch_size=4)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomData(8, seed=1), batch_size=4)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomData(8, seed=2), batch_size=4)

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(RandomData(8, seed=3), batch_size=4)


class TinyModule(_Loaders, Module):
    """One linear layer with every step and loader; logs ``train_loss``, and for val and test ``_loss`` and ``_acc``."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(8, 2)
        self.lr = lr

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        classes: Tensor = self(batch[0]).argmax(dim=1)
        return classes

    def _evaluate(self, batch: Any, stage: str) -> None:
        x, y = batch
        logits = self(x)
        self.log(f"{stage}_loss", F.cross_entropy(logits, y))
        self.log(f"{stage}_acc", (logits.argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class TinyDataModule(_Loaders, DataModule):
    """The data of :class:`TinyModule` as a data module."""
