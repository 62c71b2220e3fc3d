"""Reads handwritten digits: a small network on scikit-learn's 1,797 images, every part of the run chosen by name."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import leyden as ly
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset


class DigitsData(ly.DataModule):
    """The images, 8x8 with values from 0 to 1, split 60/20/20 so that each part has every digit in the same proportion."""

    def __init__(self, batch_size: int = 64, split_seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        y = torch.tensor(labels)
        dataset, seed = TensorDataset(x, y), self.hparams.split_seed
        rest, test = train_test_split(range(len(y)), test_size=0.2, stratify=labels, random_state=seed)
        train, val = train_test_split(rest, test_size=0.25, stratify=labels[rest], random_state=seed)
        self.train, self.val, self.test = Subset(dataset, train), Subset(dataset, val), Subset(dataset, test)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, batch_size=256)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, batch_size=256)


class Digits(ly.Module):
    """Two convolutions and two linear layers; images of shape (batch, 1, 8, 8) to logits of shape (batch, 10)."""

    def __init__(self, channels: int = 32, hidden: int = 128, dropout: float = 0.25, lr: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = torch.zeros(1, 1, 8, 8)
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * 4 * 4, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.evaluate(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.evaluate(batch, "test")

    def evaluate(self, batch: list[Tensor], stage: str) -> None:
        x, y = batch
        logits = self(x)
        self.log(f"{stage}/loss", F.cross_entropy(logits, y))
        self.log(f"{stage}/acc", (logits.argmax(dim=1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def main() -> int:
    """Trains, tests the best checkpoint, and says where everything is; 1 if the test accuracy is below the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-epochs", type=int, default=20)
    parser.add_argument("--min-acc", type=float, default=0.97, help="the test accuracy below which the exit code is 1")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--root", default=".", help="where the directory leyden_logs is made")
    options = parser.parse_args()

    ly.seed_everything(1)
    trainer = ly.Trainer(
        accelerator=options.accelerator,
        strategy="single_device",
        devices=1,
        precision=options.precision,
        logger=[{"tensorboard": {"log_graph": True}}, "csv"],
        callbacks=[
            {"early_stopping": {"monitor": "val/loss", "patience": 5}},
            {"checkpoint": {"monitor": "val/acc", "mode": "max"}},
            "learning_rate_monitor",
            "model_summary",
            "progress",
        ],
        max_epochs=options.max_epochs,
        log_every_n_steps=5,
        default_root_dir=options.root,
    )
    trainer.fit(Digits(), datamodule=DigitsData())
    (metrics,) = trainer.test(ckpt_path="best", datamodule=DigitsData())

    accuracy = metrics["test/acc"]
    beside = Path(sys.executable).with_name("tensorboard")  # of an environment that may not be the active one
    tensorboard = "tensorboard" if shutil.which("tensorboard") else min(str(beside), os.path.relpath(beside), key=len)
    print(f"""
test accuracy    {accuracy:.2%} of images that training never saw, with the weights that were best in validation
logs             {trainer.log_dir}
best checkpoint  {trainer.checkpoint_callback.best_model_path}
look at it with  {tensorboard} --logdir {Path(trainer.log_dir).parent}
""")
    if accuracy < options.min_acc:
        print(f"the test accuracy {accuracy:.4f} is below {options.min_acc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
