"""What older generations passed, returned and counted, and what modules of theirs read of the Trainer."""

from __future__ import annotations

import copy
import pickle
import warnings

import leyden
import leyden_lightning as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

pytestmark = pytest.mark.filterwarnings("ignore::leyden_lightning.LegacyWarning")

QUIET = {
    "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False,
    "accelerator": "cpu", "devices": 1, "max_epochs": 1,
}  # fmt: skip


def rows(length: int = 8) -> DataLoader:
    return DataLoader(torch.arange(length * 4, dtype=torch.float32).reshape(length, 4).sin(), batch_size=2)


class Base(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 1), nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return self.first(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Alternating(Base):
    def training_step(self, batch, batch_idx, optimizer_idx):
        loss = (self.first, self.second)[optimizer_idx](batch).square().mean()
        return {"loss": loss, "at": (batch_idx, optimizer_idx)}

    def configure_optimizers(self):
        return torch.optim.SGD(self.first.parameters(), lr=0.1), torch.optim.SGD(self.second.parameters(), lr=0.1)


def places(outputs):
    return [[output["at"] for output in inner] for inner in outputs]


BY_BATCH = [[(0, 0), (0, 1)], [(1, 0), (1, 1)], [(2, 0), (2, 1)]]
BY_OPTIMIZER = [[(0, 0), (1, 0), (2, 0)], [(0, 1), (1, 1), (2, 1)]]


def test_outputs_of_several_optimizers_come_by_batch():
    class Module(Alternating):
        def training_epoch_end(self, outputs):
            self.seen = places(outputs)

    pl.Trainer(**QUIET).fit(module := Module(), rows(6))
    assert module.seen == BY_BATCH


def test_legacy_outputs_come_by_optimizer():
    class Module(Alternating):
        def training_epoch_end(self, outputs):
            self.seen = places(outputs)

    pl.Trainer(legacy_outputs="optimizer_major", **QUIET).fit(module := Module(), rows(6))
    assert module.seen == BY_OPTIMIZER
    with pytest.raises(ValueError, match="expected None or 'optimizer_major'"):
        pl.Trainer(legacy_outputs="batch_major")


@pytest.mark.parametrize("legacy_outputs", [None, "optimizer_major"])
def test_new_format_says_how_the_outputs_are_nested(legacy_outputs):
    class Module(Alternating):
        def training_epoch_end(self, outputs, new_format):
            self.seen = places(outputs), new_format

    pl.Trainer(legacy_outputs=legacy_outputs, **QUIET).fit(module := Module(), rows(6))
    assert module.seen == ((BY_BATCH, True) if legacy_outputs is None else (BY_OPTIMIZER, False))


@pytest.mark.parametrize("legacy_outputs", [None, "optimizer_major"])
def test_outputs_of_one_optimizer_are_a_list_by_batch_in_every_generation(legacy_outputs):
    class Module(Base):
        def training_epoch_end(self, outputs):
            self.seen = [sorted(output) for output in outputs]

    pl.Trainer(legacy_outputs=legacy_outputs, **QUIET).fit(module := Module(), rows(6))
    assert module.seen == [["loss"]] * 3


def test_an_unattached_modules_trainer_raises_and_says_from_when_on_it_is_there():
    with pytest.raises(RuntimeError, match="not attached to a Trainer; it is from trainer"):
        print(Base().trainer)


def test_the_trainers_precision_is_a_str_and_the_precision():
    trainer = pl.Trainer(precision="bf16-mixed", **QUIET)
    assert isinstance(trainer.precision, str)
    assert trainer.precision == "bf16-mixed" == str(trainer.precision)
    assert trainer.precision == "bf16"
    assert trainer.precision.endswith("mixed")
    assert isinstance(trainer.precision_plugin, leyden.Precision)
    assert trainer.precision.state_dict() == trainer.precision_plugin.state_dict()
    assert pl.Trainer(precision=64, **QUIET).precision == 64
    assert pl.Trainer(**QUIET).precision == "32-true"


def test_the_trainers_precision_survives_copies_and_pickles():
    precision = pl.Trainer(precision="64-true", **QUIET).precision
    for other in (copy.copy(precision), copy.deepcopy(precision), pickle.loads(pickle.dumps(precision))):  # ours
        assert other == "64-true"
        assert type(other.component) is type(precision.component)


def test_a_precision_of_ones_own_is_called_through_its_name():
    class Precision(leyden.Precision):
        steps = started = 0

        def step(self, optimizer, closure=None):
            self.steps += 1
            return super().step(optimizer, closure)

        @leyden.hookimpl
        def on_train_start(self):
            self.started += 1

    precision = Precision()
    trainer = pl.Trainer(plugins=[precision], **QUIET)
    trainer.fit(Base(), rows())
    assert trainer.precision_plugin is precision
    assert (precision.steps, precision.started) == (4, 1)
    assert isinstance(trainer.precision, str)


def test_a_precision_of_ones_own_has_its_hooks_called_in_the_trials_of_a_tuner():
    starts = []

    class Precision(leyden.Precision):
        @leyden.hookimpl
        def on_train_start(self, trainer):
            starts.append((self, trainer.precision_plugin))

    class Rated(Base):
        lr = 0.1

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    precision = Precision()
    trainer = pl.Trainer(plugins=[precision], **QUIET)
    pl.tuner.Tuner(trainer).lr_find(Rated(), rows(), num_training=4)
    (called, used), *others = starts
    assert called is used  # the trial's own copy, and once
    assert called is not precision
    assert others == []


SUPER = [
    ("epoch, batch_idx, optimizer, optimizer_closure", "epoch, batch_idx, optimizer, optimizer_closure"),
    (
        "epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_native_amp, using_lbfgs",
        "epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_native_amp, using_lbfgs",
    ),
    (
        "epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_lbfgs",
        "epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_lbfgs",
    ),
    (
        "epoch, batch_idx, optimizer, opt_idx, closure, on_tpu=False, using_native_amp=False, using_lbfgs=False",
        "epoch, batch_idx, optimizer, opt_idx, optimizer_closure=closure, on_tpu=on_tpu, using_lbfgs=using_lbfgs",
    ),
    (
        "current_epoch, batch_nb, optimizer, optimizer_i, second_order_closure=None",
        "current_epoch, batch_nb, optimizer, optimizer_i, second_order_closure",
    ),
    (
        "epoch=None, batch_idx=None, optimizer=None, optimizer_idx=None, optimizer_closure=None, **kwargs",
        "epoch=epoch, batch_idx=batch_idx, optimizer=optimizer, optimizer_idx=optimizer_idx, "
        "optimizer_closure=optimizer_closure, **kwargs",
    ),
    ("*args, **kwargs", "*args, **kwargs"),
]


def overriding(name: str, parameters: str, arguments: str) -> type:
    """A module with an override that passes its arguments to ``super()``."""
    made = {}
    source = (
        f"class Module(Base):\n  def {name}(self, {parameters}):\n    self.called = True\n    return super().{name}({arguments})"
    )
    exec(source, {"Base": Base, "__name__": __name__}, made)  # the line above
    return made["Module"]


@pytest.mark.parametrize(("parameters", "arguments"), SUPER, ids=range(len(SUPER)))
def test_super_optimizer_step_takes_what_each_generation_passed(parameters, arguments):
    module = overriding("optimizer_step", parameters, arguments)()
    before = module.first.weight.detach().clone()
    trainer = pl.Trainer(**QUIET)
    trainer.fit(module, rows())
    assert module.called
    assert trainer.global_step == 4
    assert not torch.equal(module.first.weight, before)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("optimizer_zero_grad", "epoch, batch_idx, optimizer, optimizer_idx"),
        ("backward", "loss, optimizer, optimizer_idx"),
        ("configure_gradient_clipping", "optimizer, optimizer_idx, gradient_clip_val, gradient_clip_algorithm"),
        ("lr_scheduler_step", "scheduler, optimizer_idx, metric"),
        ("transfer_batch_to_device", "batch, device"),
        ("on_train_epoch_end", "outputs"),
        ("on_train_batch_start", "batch, batch_idx, dataloader_idx"),
        ("on_train_batch_end", "outputs, batch, batch_idx, dataloader_idx"),
        ("on_before_optimizer_step", "optimizer, optimizer_idx"),
    ],
)
def test_super_of_another_method_takes_what_1_x_passed(name, parameters):
    class Scheduled(overriding(name, parameters, parameters)):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    module = Scheduled()
    before = module.first.weight.detach().clone()
    pl.Trainer(gradient_clip_val=1.0, **QUIET).fit(module, rows())
    assert module.called
    assert not torch.equal(module.first.weight, before)


@pytest.mark.parametrize("shared", [False, True])
def test_a_step_that_returns_none_counts_as_in_2_6(shared):
    class Module(Base):
        def training_step(self, batch, batch_idx):
            return (
                self.shared(batch, batch_idx) if shared else (None if batch_idx == 1 else super().training_step(batch, batch_idx))
            )

        def shared(self, batch, batch_idx):
            if batch_idx == 1:
                return None
            return Base.training_step(self, batch, batch_idx)

    trainer = pl.Trainer(**{**QUIET, "max_epochs": 2})
    trainer.fit(Module(), rows())
    assert trainer.global_step == 8
    trainer = pl.Trainer(max_steps=2, **QUIET)
    trainer.fit(Module(), rows())
    assert (trainer.global_step, trainer.progress.total_batches) == (2, 2)


class Tokenizer:
    """No data, and not to be found by a name."""

    def __init__(self):
        self.words = iter("abc")


def test_hyperparameters_that_no_file_can_hold_are_left_out_with_a_warning(tmp_path):
    class Module(Base):
        def __init__(self, tokenizer, function, lr=0.1):
            super().__init__()
            self.save_hyperparameters()

    settings = {**QUIET, "enable_checkpointing": True, "default_root_dir": str(tmp_path)}
    trainer = pl.Trainer(**settings)
    with pytest.warns(leyden.LeydenWarning, match="'tokenizer', 'function' are not plain data and are not in the checkpoint"):
        trainer.fit(Module(Tokenizer(), lambda value: value), rows())
    path = trainer.checkpoint_callback.best_model_path
    assert torch.load(path, weights_only=True)["hyper_parameters"] == {"lr": 0.1}
    loaded = Module.load_from_checkpoint(path, tokenizer=None, function=None)
    assert loaded.hparams.lr == 0.1
    with pytest.raises(TypeError, match="tokenizer"):
        Module.load_from_checkpoint(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", leyden.LeydenWarning)
        pl.Trainer(**{**settings, "max_epochs": 2}).fit(Module(Tokenizer(), len), rows(), ckpt_path=path)


class Scaler:
    """No plain data."""


def test_what_a_hook_adds_to_a_checkpoint_and_is_no_data_is_left_out_with_a_warning(tmp_path):
    class Module(Base):
        def __init__(self, lr=0.1):
            super().__init__()
            self.save_hyperparameters()

        def on_save_checkpoint(self, checkpoint):
            checkpoint["special"] = {"scaler": Scaler(), "mean": torch.tensor(2.0), "deeper": {"scalers": [Scaler()], "sd": 3}}
            checkpoint["whole"] = Scaler()
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY].update(scaler=Scaler())

    places = r"special\['scaler'\].*special\['deeper'\]\['scalers'\].*whole.* is not plain data and is not in the checkpoint"
    trainer = pl.Trainer(**{**QUIET, "enable_checkpointing": True, "default_root_dir": str(tmp_path)})
    with pytest.warns(leyden.LeydenWarning, match=places):
        trainer.fit(Module(lr=0.2), rows())
    checkpoint = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert checkpoint["special"] == {"mean": torch.tensor(2.0), "deeper": {"sd": 3}}
    assert "whole" not in checkpoint
    assert checkpoint["hyper_parameters"] == {"lr": 0.2}
    assert Module.load_from_checkpoint(trainer.checkpoint_callback.best_model_path).hparams == {"lr": 0.2}


@pytest.mark.parametrize(("interval", "batch", "epoch"), [("batch", True, False), ("epoch", False, True)])
def test_a_prediction_writer_says_when_it_writes(interval, batch, epoch):
    writer = pl.callbacks.BasePredictionWriter(interval)
    assert (writer.interval.on_batch, writer.interval.on_epoch) == (batch, epoch)
