"""A wrong type from a method that somebody overrode is refused by the method's name."""

from __future__ import annotations

import pytest
import torch
from leyden import (
    Accelerator,
    Callback,
    CheckpointIO,
    DataModule,
    Logger,
    Module,
    Precision,
    Profiler,
    Strategy,
    Trainer,
    adapted,
)
from leyden.testing import TinyDataModule, TinyModule
from torch import nn

pytestmark = pytest.mark.usefixtures("core_alone")


class Saves(Callback):
    def on_train_end(self, trainer, module):
        trainer.save_checkpoint("run.ckpt")


def returning(base, name, value):
    """A class ``Mine`` whose method or property ``name`` gives ``value``."""
    member = property(lambda self: value) if name in ("log_dir", "state_key") else lambda self, *args, **kwargs: value
    return type("Mine", (base,), {name: member})()


def refusal(run, *args, **kwargs):
    with pytest.raises(TypeError) as caught:
        run(*args, **kwargs)
    return str(caught.value)


def fit(module=None, datamodule=None, **options):
    trainer = Trainer(**{"max_epochs": 1, "callbacks": [Saves()], **options})
    trainer.fit(module or TinyModule(), datamodule=datamodule)
    return trainer


CALLED = "expected what is to be called in each batch"
LAUNCHED = "expected what the function it runs returned on rank 0"


@pytest.mark.parametrize("value", [3, None])
@pytest.mark.parametrize(
    ("part", "name", "expected"),
    [
        (Strategy, "wrap_step", CALLED),
        (Strategy, "bind_backward", CALLED),
        (Strategy, "setup_optimizers", "expected the list of optimizers to step"),
        (Strategy, "module_state", "expected a dict"),
        (Strategy, "optimizer_state", "expected a dict"),
        (Strategy, "launch", LAUNCHED),
        (Precision, "wrap_step", CALLED),
        (Precision, "state_dict", "expected a dict"),
        (Profiler, "wrap", CALLED),
        (Accelerator, "device", "expected a torch.device"),
        (Accelerator, "parse_devices", "expected a list of ints"),
    ],
)
def test_a_component(part, name, expected, value):
    message = refusal(fit, **{part.kind: returning(part, name, value)})
    assert message == f"Mine.{name} returned {type(value).__name__} {value}; {expected}"


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_strategy_that_loses_the_results_of_a_run(stage):
    trainer = Trainer(strategy=returning(Strategy, "launch", None))
    assert refusal(getattr(trainer, stage), TinyModule()) == f"Mine.launch returned NoneType None; {LAUNCHED}"


def test_a_step_that_does_not_say_whether_it_updated():
    assert refusal(fit, precision=returning(Precision, "step", None)) == (
        "Mine.step returned NoneType None; expected whether it updated the parameters"
    )


def test_a_directory_of_a_logger():
    assert refusal(lambda: fit(logger=returning(Logger, "log_dir", 3)).log_dir) == (
        "Mine.log_dir returned int 3; expected a str or None"
    )


def test_a_loaded_checkpoint():
    fit()
    trainer = Trainer(checkpoint_io=returning(CheckpointIO, "load", [3]), max_epochs=1)
    assert refusal(trainer.fit, TinyModule(), ckpt_path="run.ckpt") == "Mine.load returned list [3]; expected a dict"


@pytest.mark.parametrize("value", [3, None])
def test_a_state_of_a_callback_or_a_data_module(value):
    shown = f"{type(value).__name__} {value}"
    mine = returning(Saves, "state_dict", value)
    assert refusal(fit, callbacks=[mine]) == f"Mine.state_dict returned {shown}; expected a dict"
    data = returning(TinyDataModule, "state_dict", value)
    assert refusal(fit, datamodule=data) == f"Mine.state_dict returned {shown}; expected a dict"


def test_a_key_of_a_callbacks_state():
    class Stateful(Saves):
        def state_dict(self):
            return {"a": 1}

    assert refusal(fit, callbacks=[returning(Stateful, "state_key", 3)]) == "Mine.state_key returned int 3; expected a str"


def test_a_callback_that_knows_a_checkpoint():
    trainer = fit(callbacks=[returning(Callback, "resolve_checkpoint", 3)])
    assert refusal(trainer.test, TinyModule(), ckpt_path="best", verbose=False) == (
        "Mine.resolve_checkpoint returned int 3; expected a str or None"
    )


@pytest.mark.parametrize("base", [TinyModule, TinyDataModule])
@pytest.mark.parametrize("name", ["on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"])
def test_a_transfer_method_that_forgets_the_batch(base, name):
    mine = returning(base, name, None)
    options = {"module": mine} if base is TinyModule else {"datamodule": mine}
    assert refusal(fit, **options) == f"Mine.{name} returned None; expected the batch: end it with `return batch`"


@pytest.mark.parametrize("base", [TinyModule, TinyDataModule])
@pytest.mark.parametrize(
    ("name", "stage"),
    [("train_dataloader", "fit"), ("val_dataloader", "fit"), ("test_dataloader", "test"), ("predict_dataloader", "predict")],
)
def test_a_loader_method(base, name, stage):
    mine = returning(base, name, 3)
    module, datamodule = (mine, None) if base is TinyModule else (TinyModule(), mine)
    assert refusal(getattr(Trainer(max_epochs=1), stage), module, datamodule=datamodule) == (
        f"Mine.{name}(): expected a DataLoader or an iterable of batches, got int 3"
    )


def test_callbacks_and_optimizers_of_a_module():
    assert refusal(fit, returning(TinyModule, "configure_callbacks", 3)) == (
        "Mine.configure_callbacks()=3: expected a name, {name: options} or an instance of Callback, got int 3"
    )
    assert refusal(fit, returning(TinyModule, "configure_optimizers", 3)) == (
        "Mine.configure_optimizers: expected an optimizer, got int 3"
    )


@pytest.mark.parametrize("name", ["setup", "on_train_start", "configure_model", "on_train_batch_end", "optimizer_zero_grad"])
def test_what_a_method_that_answers_nothing_returns_is_not_looked_at(name):
    module = returning(TinyModule, name, 3)
    assert fit(module).global_step == 4
    assert torch.isfinite(module.layer.weight).all()


def test_weights_of_a_module():
    assert refusal(fit, returning(TinyModule, "state_dict", 3)) == "Mine.state_dict returned int 3; expected a dict"


def test_a_line_of_a_callbacks_outline():
    class Outlines(Callback):
        def outline(self, trainer):
            return 3

        def on_train_start(self, trainer, module):
            trainer.outline()

    assert refusal(fit, callbacks=[Outlines()]) == "Outlines.outline returned int 3; expected a str or None"


# ---- every method that can be overridden ----

REFUSED = {
    Module: {
        "training_step", "configure_optimizers", "configure_callbacks", "optimizer_step", "on_before_batch_transfer",
        "transfer_batch_to_device", "on_after_batch_transfer", "train_dataloader", "val_dataloader", "test_dataloader",
        "predict_dataloader", "state_dict",
    },
    DataModule: {
        "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer", "train_dataloader", "val_dataloader",
        "test_dataloader", "predict_dataloader", "state_dict",
    },
    Callback: {"state_dict", "state_key", "resolve_checkpoint", "outline"},
}  # fmt: skip
"""Methods whose results are used: tested above, in test_bad_input or, a closure that was not called, in test_optimization."""

ANY = {"validation_step", "test_step", "predict_step", "forward", "save_before_stop"}
"""Methods that may return anything."""

CALLED_BY_THE_USER = {
    "log", "log_dict", "print", "all_gather", "optimizers", "lr_schedulers", "manual_backward", "toggle_optimizer",
    "untoggle_optimizer", "toggled_optimizer", "clip_gradients", "freeze", "unfreeze", "save_hyperparameters",
    "load_from_checkpoint", "to_onnx", "to_torchscript", "to_torch_export", "from_datasets",
}  # fmt: skip

NOT_OF_CALLBACKS = {"translate_arguments", "default_logger", "default_callbacks", "adapt_hooks", "adapt_methods"}
"""Hooks that plug-ins of the group ``leyden`` answer; a callback with one is refused."""


def methods(kind):
    own = [name for name in vars(nn.Module) if kind is not Module or name != "state_dict"]
    names = {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name)) and name not in own}
    offered = {name for name in names if isinstance(vars(kind).get(name), adapted._Offered)}  # a plug-in's, not core's
    return names - offered - REFUSED[kind] - ANY - CALLED_BY_THE_USER - NOT_OF_CALLBACKS


def everything(module, datamodule, callbacks):
    """Calls every method there is."""
    options = {"max_epochs": 1, "gradient_clip_val": 1.0, "limit_train_batches": 1, "limit_val_batches": 1}
    trainer = Trainer(callbacks=[*callbacks, Saves()], **options)
    trainer.fit(module, datamodule=datamodule)
    trainer.validate(module, datamodule=datamodule, verbose=False)
    trainer.test(module, datamodule=datamodule, verbose=False)
    trainer.predict(module, datamodule=datamodule)
    Trainer(callbacks=callbacks, **{**options, "max_epochs": 2}).fit(module, datamodule=datamodule, ckpt_path="run.ckpt")


@pytest.mark.parametrize(
    ("base", "kind", "name"),
    [
        pytest.param(base, kind, name, id=f"{kind.__name__}.{name}")
        for base, kind in ((TinyModule, Module), (TinyDataModule, DataModule), (Callback, Callback))
        for name in sorted(methods(kind))
    ],
)
def test_what_any_other_method_returns_harms_nothing(base, kind, name):
    mine = returning(base, name, "a str")
    everything(
        mine if kind is Module else TinyModule(),
        mine if kind is DataModule else TinyDataModule(),
        [mine] if kind is Callback else [],
    )
