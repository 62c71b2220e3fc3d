"""The order in which hooks, steps and loaders are called: that of Lightning 2.6.6, and that of ``leyden.hookspecs.order``."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import leyden
from leyden.hookspecs import Block, Call, order
from leyden.testing import RandomData

STAGES = ("fit", "validate", "test", "predict")
EVENTS = [
    "setup", "teardown", "on_fit_start", "on_fit_end", "on_sanity_check_start", "on_sanity_check_end", "on_train_start",
    "on_train_end", "on_train_epoch_start", "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end",
    "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_save_checkpoint",
    "on_load_checkpoint",
    *(f"on_{stage}_{when}" for stage in ("validation", "test", "predict")
      for when in ("start", "end", "epoch_start", "epoch_end", "batch_start", "batch_end")),
]  # fmt: skip
MODULE_ONLY = [
    "configure_callbacks", "configure_model", "prepare_data", "on_before_batch_transfer", "transfer_batch_to_device",
    "on_after_batch_transfer", "on_validation_model_zero_grad", "configure_gradient_clipping", "optimizer_zero_grad",
    "lr_scheduler_step", *(f"on_{stage}_model_{mode}" for stage in ("validation", "test", "predict") for mode in ("eval", "train")),
]  # fmt: skip
LOADERS = [f"{name}_dataloader" for name in ("train", "val", "test", "predict")]


class Recording:
    """Recording parts for a library with Lightning's API; ``letters`` of who was called and the method go to ``calls``."""

    def __init__(self, library: ModuleType, **options: Any) -> None:
        self.calls: list[str] = []
        self.library = library
        self.options = options

    def spy(self, who: str, name: str, base: type) -> Any:
        """A method that records itself, then does what the base class does; with the base class's own signature."""
        original, calls = getattr(base, name), self.calls

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(f"{who}.{name}")
            return original(self, *args, **kwargs)

        method.__name__ = name
        method.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]  # both libraries look at it
        return method

    def module(self, *, overrides_optimizer_step: bool) -> Any:
        calls, base = self.calls, getattr(self.library, "Module", None) or self.library.LightningModule
        spied = [*EVENTS, *MODULE_ONLY, *(["optimizer_step"] if overrides_optimizer_step else [])]

        class Recorded(base):  # type: ignore[misc,valid-type]  # whichever library's
            locals().update({name: self.spy("M", name, base) for name in spied if hasattr(base, name)})

            def __init__(self, width: int = 2) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.layer = nn.Linear(8, width)

            def _step(self, name: str, batch: Any) -> Any:
                calls.append(f"M.{name}")
                return F.cross_entropy(self.layer(batch[0]), batch[1])

            def training_step(self, batch: Any, batch_idx: int) -> Any:
                loss = self._step("training_step", batch)
                self.log("train_loss", loss, on_step=True, on_epoch=True)
                return loss

            def validation_step(self, batch: Any, batch_idx: int) -> None:
                self.log("val_loss", self._step("validation_step", batch))

            def test_step(self, batch: Any, batch_idx: int) -> None:
                self.log("test_loss", self._step("test_step", batch))

            def predict_step(self, batch: Any, batch_idx: int) -> Any:
                return self._step("predict_step", batch)

            def backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
                calls.append("M.backward")
                loss.backward()

            def configure_optimizers(self) -> Any:
                calls.append("M.configure_optimizers")
                optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
                return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

        return Recorded()

    def datamodule(self) -> Any:
        base = getattr(self.library, "DataModule", None) or self.library.LightningDataModule
        body: dict[str, Any] = {name: self.spy("D", name, base) for name in ("prepare_data", "setup", "teardown", "state_dict")}
        for name in LOADERS:

            def loader(_: Any, name: str = name) -> Any:
                self.calls.append(f"D.{name}")
                return DataLoader(RandomData(6 if name == "train_dataloader" else 2), batch_size=2)

            body[name] = loader
        return type("RecordedData", (base,), body)()

    def callback(self) -> Any:
        base = self.library.Callback
        body = {name: self.spy("C", name, base) for name in EVENTS if hasattr(base, name)}

        def state_dict(_: Any) -> dict[str, Any]:
            if not inspect.stack()[1].function == "stateful":  # leyden asks whether there is any state, as well as for it
                self.calls.append("C.state_dict")
            return {"stateful": True}

        def load_state_dict(_: Any, state: dict[str, Any]) -> None:
            self.calls.append("C.load_state_dict")

        return type("RecordedCallback", (base,), {**body, "state_dict": state_dict, "load_state_dict": load_state_dict})()

    def logger(self) -> Any:
        base = getattr(self.library, "Logger", None) or self.library.loggers.logger.Logger
        names = ("log_hyperparams", "log_metrics", "log_graph", "after_save_checkpoint", "finalize")
        abstract = {"log_hyperparams", "log_metrics"}  # of the one library, and empty in the other
        body: dict[str, Any] = {name: self.spy("L", name, base) for name in names if name not in abstract}
        for name in abstract:
            body[name] = lambda _, *args, name=name, **kwargs: self.calls.append(f"L.{name}")
        return type("RecordedLogger", (base,), {**body, "name": "recorded", "version": 0, "experiment": None})()

    def run(self, stage: str, directory: Path, *, overrides_optimizer_step: bool, checkpoint: Any = None, **options: Any) -> list[str]:
        """Every call of one stage."""
        trainer = self.library.Trainer(
            accelerator="cpu", devices=1, max_epochs=2, num_sanity_val_steps=1, log_every_n_steps=1, default_root_dir=directory,
            logger=self.logger(), callbacks=[self.callback(), *([checkpoint] if checkpoint else [])],
            enable_checkpointing=checkpoint is not None, enable_progress_bar=False, enable_model_summary=False, **options,
        )  # fmt: skip
        module = self.module(overrides_optimizer_step=overrides_optimizer_step)
        getattr(trainer, stage)(module, datamodule=self.datamodule())
        return self.calls
