"""What packages that are written for Lightning were found to need of the port."""

from __future__ import annotations

import importlib
import inspect

import leyden_lightning as pl
import pytest
import torch

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
         "accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1}  # fmt: skip


def of(path, name):
    return getattr(importlib.import_module(f"leyden_lightning.{path}"), name)


Boring = of("demos.boring_classes", "BoringModel")


class Seen(pl.Callback):
    """Calls a function in a hook, and keeps what it returns."""

    def __init__(self, hook, function):
        self.found = []
        setattr(self, hook, lambda trainer, pl_module, *args: self.found.append(function(trainer, pl_module)))


def test_the_inside_says_which_accelerator_and_devices_a_choice_comes_to():
    connector = of("trainer.connectors.accelerator_connector", "_AcceleratorConnector")(accelerator="cpu", devices=1)
    assert (connector._accelerator_flag, connector._devices_flag, connector.is_distributed) == ("cpu", 1, False)
    trainer = pl.Trainer(**QUIET)
    assert trainer._accelerator_connector.is_distributed is False
    assert trainer._accelerator_connector._parallel_devices == [torch.device("cpu")]


def test_arguments_of_a_frame_are_those_of_its_init():
    get_init_args = of("utilities.parsing", "get_init_args")

    class Base:
        def __init__(self, a, b=2, *, c=3, **others):
            self.found = get_init_args(inspect.currentframe())

    assert Base(1, d=4).found == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_the_standard_metrics_of_a_bar_are_the_version_of_the_logger(tmp_path):
    get_standard_metrics = of("callbacks.progress.progress_bar", "get_standard_metrics")
    assert get_standard_metrics(pl.Trainer(**QUIET)) == {}
    trainer = pl.Trainer(**{**QUIET, "logger": of("loggers", "CSVLogger")(tmp_path)})
    assert get_standard_metrics(trainer) == {"v_num": 0}


def test_a_class_that_overrides_load_from_checkpoint_calls_the_one_below(tmp_path):
    load = of("core.saving", "_load_from_checkpoint")

    class Own(Boring):
        @classmethod
        def load_from_checkpoint(cls, path, **kwargs):
            return load(cls, path, **kwargs)

    trainer = pl.Trainer(**QUIET)
    model = Own()
    trainer.fit(model)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(Own.load_from_checkpoint(tmp_path / "a.ckpt").layer.weight, model.layer.weight)
    assert torch.equal(Own.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=False).layer.weight, model.layer.weight)


def test_a_method_of_ones_own_with_the_name_of_an_old_hook_is_not_called():
    class Own(Boring):
        def on_epoch_end(self, outputs):
            raise AssertionError("it is the module's own business")

    pl.Trainer(**QUIET).fit(Own())


def test_the_strategy_knows_the_module_and_writes_checkpoints(tmp_path):
    def save(trainer, module):
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(False)
        trainer.strategy.save_checkpoint(checkpoint, tmp_path / "a.ckpt")
        return trainer.strategy.lightning_module is module and trainer.strategy.optimizers == trainer.optimizers

    seen = Seen("on_train_epoch_end", save)
    model = Boring()
    pl.Trainer(**QUIET, callbacks=[seen]).fit(model)
    assert seen.found == [True]
    assert torch.equal(Boring.load_from_checkpoint(tmp_path / "a.ckpt").layer.weight, model.layer.weight)


def test_a_strategy_without_a_run_writes_no_checkpoint(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        of("strategies", "SingleDeviceStrategy")().save_checkpoint({}, tmp_path / "a.ckpt")
    assert str(caught.value) == "strategy.save_checkpoint() needs a run; call it in a hook"


@pytest.mark.parametrize(("val", "expected"), [(True, True), (False, False)])
def test_a_module_asks_the_loop_whether_there_is_a_validation(val, expected):
    class Own(Boring):
        def configure_optimizers(self):
            self.found = self.trainer.fit_loop.epoch_loop.val_loop._data_source.is_defined()
            return super().configure_optimizers()

    if not val:
        Own.val_dataloader = pl.LightningModule.val_dataloader
    model = Own()
    pl.Trainer(**QUIET).fit(model)
    assert model.found is expected


def test_a_model_summary_of_a_module_is_its_table_and_one_of_a_depth_is_a_callback():
    summary = of("utilities.model_summary", "ModelSummary")
    table = summary(Boring(), max_depth=-1)
    assert "layer" in str(table)
    assert table.total_parameters == table.trainable_parameters == 66
    assert isinstance(summary(max_depth=2), pl.Callback)


def test_a_summary_among_the_callbacks_goes_with_enable_model_summary_false():
    callback = of("callbacks", "ModelSummary")()
    assert callback in pl.Trainer(**QUIET, callbacks=[callback]).callbacks


def test_logged_metrics_are_tensors_of_this_epoch_at_its_end():
    class Own(Boring):
        def training_step(self, batch, batch_idx):
            self.log("epoch", float(self.current_epoch), on_step=False, on_epoch=True)
            return self.step(batch)

    seen = Seen("on_train_epoch_end", lambda trainer, module: trainer.logged_metrics.get("epoch"))
    pl.Trainer(**{**QUIET, "max_epochs": 3}, callbacks=[seen]).fit(Own())
    assert seen.found[1:] == [torch.tensor(1.0), torch.tensor(2.0)]
    assert all(isinstance(value, torch.Tensor) for value in seen.found[1:])
