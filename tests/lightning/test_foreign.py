"""Objects whose classes derive from those of an installed Lightning; what stands for that one is made here."""

from __future__ import annotations

import leyden
import leyden_lightning as pl
import pytest
import torch
from leyden_lightning.demos.boring_classes import BoringModel as BoringModule


def of_lightning(name: str, inner: str, bases: tuple[type, ...] = (), **attributes: object) -> type:
    """A class as an installed Lightning has it."""
    return type(name, bases, {"__module__": f"lightning.pytorch.{inner}", **attributes})


class Written:
    """What a logger of Lightning is for who uses it."""

    name, version, save_dir = "theirs", 3, "logs"
    experiment = "client"

    def __init__(self):
        self.metrics, self.hyperparams, self.ends = [], [], []

    def log_metrics(self, metrics, step=None):
        self.metrics.append((sorted(metrics), step))

    def log_hyperparams(self, params, *args):
        self.hyperparams.append(params)

    def after_save_checkpoint(self, callback):
        self.callback = callback

    def save(self):
        pass

    def finalize(self, status):
        self.ends.append(status)


THEIR_CALLBACK = of_lightning("Callback", "callbacks.callback", on_train_start=lambda self, trainer, pl_module: None)
THEIR_LOGGER = of_lightning("CSVLogger", "loggers.csv_logs", (of_lightning("Logger", "loggers.logger", (Written,)),))


def quiet(tmp_path, **others):
    return pl.Trainer(
        max_epochs=1, limit_train_batches=2, limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", devices=1, default_root_dir=str(tmp_path), **others,
    )  # fmt: skip


def test_a_callback_of_ones_own_that_derives_from_their_callback_is_called(tmp_path):
    class Seen(THEIR_CALLBACK):
        batches = 0

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.batches += 1

    callback = Seen()
    quiet(tmp_path, logger=False, enable_checkpointing=False, callbacks=[callback]).fit(BoringModule())
    assert callback.batches == 2


def test_their_logger_gets_what_is_logged(tmp_path):
    class Module(BoringModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss["loss"])
            return loss

    logger = THEIR_LOGGER()
    logger.save_dir = str(tmp_path)
    trainer = quiet(tmp_path, logger=logger, log_every_n_steps=1)
    trainer.fit(Module())
    assert logger.metrics == [(["epoch", "loss"], 0), (["epoch", "loss"], 1)]
    assert logger.ends == ["success"]
    assert logger.callback is trainer.checkpoint_callback
    assert trainer.logger.experiment == "client"
    assert trainer.logger.version == 3
    assert trainer.checkpoint_callback.best_model_path.startswith(str(tmp_path / "theirs" / "version_3"))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("callbacks", of_lightning("EarlyStopping", "callbacks.early_stopping", (THEIR_CALLBACK,))()),
        ("strategy", of_lightning("DDPStrategy", "strategies.ddp")()),
        ("profiler", of_lightning("SimpleProfiler", "profilers.simple")()),
        ("plugins", of_lightning("MixedPrecision", "plugins.precision.amp")()),
    ],
)
def test_a_part_of_theirs_is_refused_with_the_way_out(tmp_path, argument, value):
    with pytest.raises(TypeError, match=rf"{argument}.*{type(value).__name__} of the installed Lightning.*leyden run"):
        quiet(tmp_path, logger=False, **{argument: value})


def test_a_module_and_a_data_module_of_theirs_are_refused_with_the_way_out(tmp_path):
    class Module(of_lightning("LightningModule", "core.module", (torch.nn.Module,))):
        pass

    with pytest.raises(TypeError, match=r"model: .*Module derives from lightning.pytorch.core.module.LightningModule"):
        quiet(tmp_path, logger=False).fit(Module())
    data = of_lightning("LightningDataModule", "core.datamodule")()
    with pytest.raises(TypeError, match=r"datamodule: LightningDataModule is lightning.pytorch.* import it from"):
        quiet(tmp_path, logger=False).fit(BoringModule(), datamodule=data)


def test_a_strategy_that_overrides_what_only_lightning_calls_is_refused(tmp_path):
    class Mine(pl.strategies.SingleDeviceStrategy):
        def optimizer_step(self, *args, **kwargs):
            raise AssertionError

    class Further(Mine):
        pass

    with pytest.raises(TypeError) as caught:
        quiet(tmp_path, strategy=Further())
    assert str(caught.value) == (
        f"strategy: {Mine.__qualname__}.optimizer_step overrides a method of Lightning's that would never be called here; "
        "override wrap_step(module, name), which returns the function that is called for each batch"
    )


@pytest.mark.parametrize("argument", ["precision", "plugins"])
def test_a_precision_that_overrides_what_only_lightning_calls_is_refused(argument, tmp_path):
    class Mine(leyden.Precision):
        def forward_context(self):
            raise AssertionError

    with pytest.raises(TypeError) as caught:
        quiet(tmp_path, **{argument: Mine() if argument == "precision" else [Mine()]})
    assert str(caught.value) == (
        f"{argument}: {Mine.__qualname__}.forward_context overrides a method of Lightning's that would never be called here; "
        "override wrap_step(step, device_type), backward(loss), unscale(optimizer) or step(optimizer, closure)"
    )


def test_a_strategy_of_ones_own_that_overrides_what_leyden_calls_is_taken(tmp_path):
    class Mine(leyden.Strategy):
        steps = 0

        def wrap_step(self, module, name):
            step = super().wrap_step(module, name)

            def counted(*args):
                self.steps += 1
                return step(*args)

            return counted

    strategy = Mine()
    quiet(tmp_path, logger=False, enable_checkpointing=False, strategy=strategy).fit(BoringModule())
    assert strategy.steps == 2
