"""Programs that a Lightning runs and the port runs too; what each of them did is compared.

``python programs.py OUT.json`` runs those of the Lightning that is installed and writes what they did, ``--check OUT.json``
compares. A program is a function of the package ``pl``; ``@of`` says which releases can run it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PROGRAMS: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}


def of(*releases: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Registers a program for the releases that can run it."""

    def register(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        PROGRAMS[function.__name__] = (releases, function)
        return function

    return register


class Rows(Dataset):
    """``length`` rows of four numbers that are the same everywhere."""

    def __init__(self, length: int = 8, size: int = 4) -> None:
        self.rows = torch.arange(length * size, dtype=torch.float32).reshape(length, size).sin()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.rows[index]


def loader(length: int = 8, batch_size: int = 2) -> DataLoader:
    return DataLoader(Rows(length), batch_size=batch_size)


def linear(inputs: int = 4, outputs: int = 1, scale: float = 0.1) -> nn.Linear:
    """A layer whose weights are no random numbers."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-scale, scale, layer.weight.numel()).reshape(layer.weight.shape))
        layer.bias.zero_()
    return layer


def base(pl: Any) -> Any:
    """The module that the programs derive from."""

    class Base(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear()
            self.seen: list[Any] = []

        def forward(self, x):
            return self.net(x)

        def loss(self, batch):
            return (self.net(batch) - 1).pow(2).mean()

        def training_step(self, batch, batch_idx):
            return self.loss(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Base


def numbers(values: Any) -> Any:
    """Numbers to six digits, tensors as lists, in anything."""
    if isinstance(values, torch.Tensor):
        return numbers(values.detach().cpu().tolist())
    if isinstance(values, float):
        return float(f"{values:.6g}")
    if isinstance(values, dict):
        return {str(key): numbers(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [numbers(value) for value in values]
    return values


def weights(module: nn.Module) -> Any:
    return numbers(dict(module.state_dict()))


def trainer(pl: Any, **options: Any) -> Any:
    given = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **QUIET, **options}
    return pl.Trainer(**given)


HOOKS = [
    "setup", "teardown", "on_fit_start", "on_fit_end", "on_sanity_check_start", "on_sanity_check_end", "on_train_start",
    "on_train_end", "on_train_epoch_start", "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end",
    "on_validation_start", "on_validation_end", "on_validation_epoch_start", "on_validation_epoch_end",
    "on_validation_batch_start", "on_validation_batch_end", "on_test_start", "on_test_end", "on_test_epoch_start",
    "on_test_epoch_end", "on_test_batch_start", "on_test_batch_end", "on_predict_start", "on_predict_end",
    "on_predict_epoch_start", "on_predict_batch_start", "on_predict_batch_end", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_before_zero_grad",
]  # fmt: skip


def recording(pl: Any, stream: list[str]) -> tuple[Any, Any]:
    """A module and a callback that note every hook they are called for."""

    def note(who: str, name: str) -> Callable[..., None]:
        def hook(self, *args, **kwargs):
            stream.append(f"{who}.{name}")

        return hook

    class Module(base(pl)):
        def training_step(self, batch, batch_idx):
            stream.append("M.training_step")
            return self.loss(batch)

        def validation_step(self, batch, batch_idx):
            stream.append("M.validation_step")

        def test_step(self, batch, batch_idx):
            stream.append("M.test_step")

        def configure_optimizers(self):
            stream.append("M.configure_optimizers")
            return super().configure_optimizers()

        def prepare_data(self):
            stream.append("M.prepare_data")

    methods = [name for name in HOOKS if name not in ("on_sanity_check_start", "on_sanity_check_end")]
    module = type("Recording", (Module,), {name: note("M", name) for name in methods})
    callback = type("RecordingCallback", (pl.Callback,), {name: note("C", name) for name in HOOKS})
    return module(), callback()


# ---- 2.6 ----


@of("2.6.6")
def hooks_of_fit(pl):
    stream: list[str] = []
    module, callback = recording(pl, stream)
    trainer(pl, callbacks=[callback], max_epochs=2, limit_train_batches=2, limit_val_batches=1).fit(module, loader(), loader())
    return stream


@of("2.6.6")
def hooks_of_validate_test_and_predict(pl):
    stream: list[str] = []
    module, callback = recording(pl, stream)
    run = trainer(pl, callbacks=[callback], limit_val_batches=1, limit_test_batches=1, limit_predict_batches=1)
    run.validate(module, loader(), verbose=False)
    run.test(module, loader(), verbose=False)
    run.predict(module, loader())
    return stream


@of("2.6.6")
def hooks_with_accumulation(pl):
    stream: list[str] = []
    module, callback = recording(pl, stream)
    trainer(pl, callbacks=[callback], accumulate_grad_batches=2, num_sanity_val_steps=0).fit(module, loader())
    return stream, weights(module)


@of("2.6.6", "1.9.5")
def batches_start_minus_one_skips_the_rest_of_the_epoch(pl):
    class Module(base(pl)):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 1 else None

    module = Module()
    run = trainer(pl, max_epochs=3)
    run.fit(module, loader())
    return run.global_step, weights(module)


@of("2.6.6", "1.9.5")
def logged_values_and_their_keys(pl):
    class Module(base(pl)):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            self.log("a", loss)
            self.log("b", loss, on_epoch=True)
            self.log("c", float(batch_idx), on_step=False, on_epoch=True)
            self.log_dict({"d/x": loss * 2}, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val/loss", self.loss(batch))
            self.log("val/max", float(batch_idx), reduce_fx="max")

    module = Module()
    run = trainer(pl, num_sanity_val_steps=0)
    run.fit(module, loader(7), loader(7))
    return numbers(dict(run.callback_metrics))


@of("2.6.6")
def csv_rows(pl):
    class Module(base(pl)):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            self.log("train", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val", self.loss(batch))

    module = Module()
    run = trainer(pl, logger=pl.loggers.CSVLogger("logs", name="csv"), max_epochs=2, log_every_n_steps=2)
    run.fit(module, loader(), loader())
    import csv

    with Path("logs/csv/version_0/metrics.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return numbers(sorted(rows, key=lambda row: (row["step"], sorted(row))))


@of("2.6.6", "1.9.5")
def two_validation_loaders(pl):
    class Module(base(pl)):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("val", self.loss(batch) + dataloader_idx)

    module = Module()
    run = trainer(pl)
    run.fit(module, loader(), [loader(4), loader(6)])
    return numbers(dict(run.callback_metrics))


@of("2.6.6", "1.9.5")
def results_of_test_validate_and_predict(pl):
    class Module(base(pl)):
        def validation_step(self, batch, batch_idx):
            self.log("v", self.loss(batch))

        def test_step(self, batch, batch_idx):
            self.log("t", self.loss(batch))

    module = Module()
    run = trainer(pl)
    found = [run.validate(module, loader(5), verbose=False), run.test(module, loader(5), verbose=False)]
    return numbers([*found, run.predict(module, loader(5))])


@of("2.6.6")
def the_default_directory_and_the_keys_of_a_checkpoint(pl):
    class Module(base(pl)):
        def __init__(self, width: int = 3, name: str = "x"):
            super().__init__()
            self.save_hyperparameters()

    run = pl.Trainer(max_epochs=2, limit_train_batches=2, **QUIET)
    run.fit(Module(width=5), loader())
    path = Path(run.checkpoint_callback.best_model_path)
    checkpoint = torch.load(path, weights_only=True)
    keys = sorted(key for key in checkpoint if key != "leyden")
    return {
        "path": str(path.relative_to(Path.cwd())),
        "keys": keys,
        "values": [
            checkpoint["epoch"],
            checkpoint["global_step"],
            checkpoint["hparams_name"],
            dict(checkpoint["hyper_parameters"]),
        ],
        "files": sorted(
            entry.name for entry in Path("lightning_logs/version_0").iterdir() if not entry.name.startswith("events")
        ),
        "loops": sorted(checkpoint["loops"]["fit_loop"]),
        "batches": checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"],
        "epochs": checkpoint["loops"]["fit_loop"]["epoch_progress"],
    }


@of("2.6.6")
def checkpoint_names(pl):
    class Module(base(pl)):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(batch))

    callback = pl.callbacks.ModelCheckpoint(
        dirpath="kept", monitor="val_loss", save_top_k=2, save_last=True, filename="{epoch:02d}-{val_loss:.2f}"
    )
    run = trainer(pl, enable_checkpointing=True, callbacks=[callback], max_epochs=3)
    run.fit(Module(), loader(), loader())
    return (
        sorted(name for name in os.listdir("kept") if name.endswith(".ckpt")),
        Path(callback.best_model_path).name,
        numbers(callback.best_model_score),
    )


@of("2.6.6", "1.9.5")
def early_stopping_stops(pl):
    class Module(base(pl)):
        def validation_step(self, batch, batch_idx):
            self.log("val", float(min(self.current_epoch, 2)))

    callback = pl.callbacks.EarlyStopping(monitor="val", mode="max", patience=2)
    run = trainer(pl, callbacks=[callback], max_epochs=20)
    run.fit(Module(), loader(), loader())
    return run.current_epoch, callback.stopped_epoch, callback.wait_count, numbers(callback.best_score)


@of("2.6.6", "1.9.5")
def schedulers_of_steps_and_epochs(pl):
    rates: list[float] = []

    class Module(base(pl)):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            by_step = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
            by_epoch = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
            return [optimizer], [{"scheduler": by_step, "interval": "step"}, by_epoch]

        def on_train_batch_end(self, outputs, batch, batch_idx):
            rates.append(self.optimizers().param_groups[0]["lr"])

    module = Module()
    trainer(pl, max_epochs=2).fit(module, loader())
    return numbers(rates), weights(module)


@of("2.6.6", "1.9.5")
def plateau_by_a_monitored_value(pl):
    class Module(base(pl)):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", 1.0)

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
            return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "val/loss"}

    module = Module()
    run = trainer(pl, max_epochs=4)
    run.fit(module, loader(), loader())
    return numbers(run.optimizers[0].param_groups[0]["lr"]), weights(module)


@of("2.6.6", "1.9.5")
def clipping(pl):
    module = base(pl)()
    trainer(pl, gradient_clip_val=0.1).fit(module, loader())
    return weights(module)


@of("2.6.6", "1.9.5")
def lbfgs(pl):
    class Module(base(pl)):
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    module = Module()
    run = trainer(pl)
    run.fit(module, loader())
    return run.global_step, weights(module)


@of("2.6.6", "1.9.5")
def manual_optimization_of_two(pl):
    class Module(base(pl)):
        def __init__(self):
            super().__init__()
            self.other = linear()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            for optimizer, net in zip(self.optimizers(), (self.net, self.other), strict=True):
                loss = (net(batch) - 1).pow(2).mean()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()

        def configure_optimizers(self):
            return [torch.optim.SGD(net.parameters(), lr=rate) for net, rate in ((self.net, 0.1), (self.other, 0.2))]

    module = Module()
    run = trainer(pl)
    run.fit(module, loader())
    return run.global_step, module.global_step, weights(module)


@of("2.6.6", "1.9.5")
def max_steps_counts_the_steps_of_every_optimizer(pl):
    class Module(base(pl)):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.batches = 0

        def training_step(self, batch, batch_idx):
            self.batches += 1
            for optimizer in self.optimizers():
                loss = self.loss(batch)
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()

        def configure_optimizers(self):
            return [torch.optim.SGD(self.parameters(), lr=0.1), torch.optim.SGD(self.parameters(), lr=0.1)]

    module = Module()
    run = trainer(pl, max_steps=4, max_epochs=5)
    run.fit(module, loader())
    return run.global_step, module.batches


@of("2.6.6", "1.9.5")
def a_step_that_returns_none(pl):
    class Module(base(pl)):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) if batch_idx != 1 else None

    module = Module()
    run = trainer(pl)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.fit(module, loader())
    return weights(module), run.global_step


@of("2.6.6", "1.9.5")
def states_of_callbacks(pl):
    class Counting(pl.Callback):
        def __init__(self):
            self.batches = 0

        def state_dict(self):
            return {"batches": self.batches}

        def load_state_dict(self, state_dict):
            self.batches = state_dict["batches"]

        def on_train_batch_end(self, *args):
            self.batches += 1

    first = trainer(pl, callbacks=[Counting()])
    first.fit(base(pl)(), loader())
    first.save_checkpoint("a.ckpt")
    saved = torch.load("a.ckpt", weights_only=True)["callbacks"]
    counting = Counting()
    module = base(pl)()
    second = trainer(pl, callbacks=[counting], max_epochs=2)
    second.fit(module, loader(), ckpt_path="a.ckpt")
    return saved, counting.batches, second.global_step, weights(module)


@of("2.6.6", "1.9.5")
def hyperparameters_of_an_inherited_constructor(pl):
    class Parent(base(pl)):
        def __init__(self, lr: float, **kwargs: Any):
            super().__init__()
            self.save_hyperparameters()

    class Child(Parent):
        def __init__(self, lr: float = 0.1, layers: int = 2, extra: str = "e"):
            super().__init__(lr=lr, extra=extra)

    child = Child(layers=3)
    run = trainer(pl)
    run.fit(child, loader())
    run.save_checkpoint("b.ckpt")
    return dict(child.hparams), dict(Child.load_from_checkpoint("b.ckpt", layers=7).hparams)


@of("2.6.6")
def exceptions(pl):
    wrong = pl.utilities.exceptions.MisconfigurationException

    def kind(function: Callable[[], Any]) -> list[str]:
        try:
            function()
        except Exception as error:
            names = {"MisconfigurationException": wrong, "ValueError": ValueError, "TypeError": TypeError}
            return [name for name, cls in names.items() if isinstance(error, cls)]
        return ["nothing"]

    no_optimizers = type("M", (pl.LightningModule,), {"training_step": lambda self, batch, batch_idx: None})
    module = base(pl)
    cases = {
        "unknown argument": lambda: pl.Trainer(no_such=1),
        "limit": lambda: pl.Trainer(limit_train_batches=-1),
        "clip algorithm": lambda: pl.Trainer(gradient_clip_val=1.0, gradient_clip_algorithm="no"),
        "no training_step": lambda: trainer(pl).fit(pl.LightningModule(), loader()),
        "no optimizers": lambda: trainer(pl).fit(no_optimizers(), loader()),
        "best of nothing": lambda: trainer(pl).test(module(), loader(), ckpt_path="best"),
        "early stopping mode": lambda: pl.callbacks.EarlyStopping("x", mode="no"),
        "top k": lambda: pl.callbacks.ModelCheckpoint(save_top_k=2),
    }
    return {name: kind(function) for name, function in cases.items()}


# ---- 1.9 ----


@of("1.9.5")
def epoch_ends(pl):
    class Module(base(pl)):
        def training_step(self, batch, batch_idx):
            return {"loss": self.loss(batch), "x": batch_idx}

        def validation_step(self, batch, batch_idx):
            return {"y": self.loss(batch), "i": batch_idx}

        def test_step(self, batch, batch_idx):
            return self.loss(batch)

        def training_epoch_end(self, outputs):
            self.seen.append(
                ["training", [sorted(o) for o in outputs], [o["x"] for o in outputs], outputs[0]["loss"].requires_grad]
            )

        def validation_epoch_end(self, outputs):
            self.seen.append(["validation", [o["i"] for o in outputs]])
            self.log("val", torch.stack([o["y"] for o in outputs]).mean())

        def test_epoch_end(self, outputs):
            self.seen.append(["test", numbers(outputs)])

    module = Module()
    run = trainer(pl, max_epochs=2)
    run.fit(module, loader(), loader(6))
    logged = numbers(dict(run.callback_metrics))
    run.test(module, loader(4), verbose=False)
    return module.seen, logged


@of("1.9.5")
def epoch_ends_of_several_loaders(pl):
    class Module(base(pl)):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            return dataloader_idx * 10 + batch_idx

        def validation_epoch_end(self, outputs):
            self.seen.append(outputs)

    module = Module()
    trainer(pl, num_sanity_val_steps=0).fit(module, loader(), [loader(4), loader(6)])
    return module.seen


@of("1.9.5")
def step_ends(pl):
    class Module(base(pl)):
        def training_step(self, batch, batch_idx):
            return {"output": self.net(batch)}

        def training_step_end(self, parts):
            return (parts["output"] - 1).pow(2).mean()

        def validation_step(self, batch, batch_idx):
            return {"output": self.net(batch)}

        def validation_step_end(self, parts):
            return parts["output"].mean()

        def validation_epoch_end(self, outputs):
            self.seen.append(numbers(outputs))

    module = Module()
    trainer(pl, num_sanity_val_steps=0).fit(module, loader(), loader(4))
    return module.seen, weights(module)


@of("1.9.5")
def several_optimizers_take_turns(pl):
    class Module(base(pl)):
        def __init__(self):
            super().__init__()
            self.other = linear(scale=0.2)

        def training_step(self, batch, batch_idx, optimizer_idx):
            self.seen.append([batch_idx, optimizer_idx, self.net.weight.requires_grad, self.other.weight.requires_grad])
            return (self.other(batch) - self.net(batch) - optimizer_idx).pow(2).mean()

        def training_epoch_end(self, outputs):
            self.seen.append([len(outputs), [len(each) for each in outputs]])

        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), lr=0.1), torch.optim.SGD(self.other.parameters(), lr=0.2)

    module = Module()
    run = trainer(pl)
    run.fit(module, loader())
    return run.global_step, module.seen, weights(module)


@of("1.9.5")
def optimizers_with_frequencies(pl):
    class Module(base(pl)):
        def __init__(self):
            super().__init__()
            self.other = linear(scale=0.2)

        def training_step(self, batch, batch_idx, optimizer_idx):
            self.seen.append([batch_idx, optimizer_idx])
            return (self.other(batch) + self.net(batch) - optimizer_idx).pow(2).mean()

        def configure_optimizers(self):
            return (
                {"optimizer": torch.optim.SGD(self.net.parameters(), lr=0.1), "frequency": 2},
                {"optimizer": torch.optim.SGD(self.other.parameters(), lr=0.1), "frequency": 1},
            )

    module = Module()
    run = trainer(pl, max_epochs=2)
    run.fit(module, loader(10))
    return run.global_step, module.seen, weights(module)


@of("1.9.5")
def truncated_backpropagation_through_time(pl):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.truncated_bptt_steps = 2
            self.net = linear(1, 1, scale=0.3)
            self.seen = []

        def training_step(self, batch, batch_idx, hiddens):
            (batch,) = batch
            self.seen.append([batch_idx, hiddens is None, list(batch.shape)])
            state = torch.zeros(batch.shape[0], 1) if hiddens is None else hiddens
            for t in range(batch.shape[1]):
                state = torch.tanh(self.net(batch[:, t].unsqueeze(1)) + state)
            return {"loss": (state - 1).pow(2).mean(), "hiddens": state}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    run = trainer(pl)
    rows = torch.utils.data.TensorDataset(Rows().rows)
    run.fit(module, DataLoader(rows, batch_size=2))
    return run.global_step, module.seen, weights(module)


@of("1.9.5")
def optimizer_step_of_1(pl):
    class Module(base(pl)):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu=False, using_lbfgs=False):
            self.seen.append([epoch, batch_idx, optimizer_idx, on_tpu, using_lbfgs])
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (self.trainer.global_step + 1)
            optimizer.step(closure=optimizer_closure)

        def optimizer_zero_grad(self, epoch, batch_idx, optimizer, optimizer_idx):
            self.seen.append(["zero", epoch, batch_idx, optimizer_idx])
            optimizer.zero_grad()

    module = Module()
    trainer(pl).fit(module, loader())
    return module.seen, weights(module)


@of("1.9.5")
def other_methods_with_an_index_of_the_optimizer(pl):
    class Module(base(pl)):
        def backward(self, loss, optimizer, optimizer_idx):
            self.seen.append(["backward", type(optimizer).__name__ in ("SGD", "LightningSGD"), optimizer_idx])
            loss.backward()

        def on_before_optimizer_step(self, optimizer, optimizer_idx):
            self.seen.append(["step", optimizer_idx])

        def configure_gradient_clipping(self, optimizer, optimizer_idx, gradient_clip_val=None, gradient_clip_algorithm=None):
            self.seen.append(
                [
                    "clip",
                    optimizer_idx,
                    gradient_clip_val,
                    str(getattr(gradient_clip_algorithm, "value", gradient_clip_algorithm)),
                ]
            )
            self.clip_gradients(optimizer, gradient_clip_val=gradient_clip_val, gradient_clip_algorithm=gradient_clip_algorithm)

        def lr_scheduler_step(self, scheduler, optimizer_idx, metric):
            self.seen.append(["schedule", optimizer_idx, metric])
            scheduler.step()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]

    module = Module()
    trainer(pl, gradient_clip_val=0.1, gradient_clip_algorithm="norm").fit(module, loader(4))
    return module.seen, weights(module)


@of("1.9.5")
def predictions_at_the_end_of_their_epoch(pl):
    class Predicting(pl.Callback):
        seen: list[Any] = []  # noqa: RUF012  # read below

        def on_predict_epoch_end(self, trainer, pl_module, outputs):
            self.seen.append(numbers(outputs))

    Predicting.seen.clear()
    trainer(pl, callbacks=[Predicting()]).predict(base(pl)(), loader(4))
    return Predicting.seen


@of("1.9.5")
def the_trainers_arguments_on_a_command_line(pl):
    from argparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("--conda_env", type=str, default="some_name")
    parser = pl.Trainer.add_argparse_args(parser)
    words = "--max_epochs 3 --accelerator cpu --devices 1 --limit_train_batches 0.5 --conda_env x --fast_dev_run"
    words += " --val_check_interval 2"
    args = parser.parse_args(words.split())
    run = pl.Trainer.from_argparse_args(args, logger=False)
    return args.max_epochs, args.limit_train_batches, args.fast_dev_run, args.conda_env, args.val_check_interval, run.max_epochs


@of("1.9.5")
def names_of_the_state_of_a_run(pl):
    class Module(base(pl)):
        def training_step(self, batch, batch_idx):
            state = self.trainer.state
            self.seen.append([state.fn, state.status, state.stage, self.trainer.training])
            return self.loss(batch)

        def validation_step(self, batch, batch_idx):
            self.seen.append([self.trainer.state.stage, self.trainer.sanity_checking])

        def setup(self, stage=None):
            self.seen.append(["setup", stage])

    module = Module()
    run = trainer(pl, limit_train_batches=1, limit_val_batches=1)
    run.fit(module, loader(), loader())
    text = [[str(getattr(part, "value", part)) for part in each] for each in module.seen]
    return text, str(run.state.status.value), str(run.state.fn.value)


def run_program(name: str, pl: Any) -> Any:
    """What a program did, as JSON would have it; in an empty directory, with the same random numbers."""
    before = os.getcwd()  # noqa: PTH109  # to go back to
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        torch.manual_seed(0)
        try:
            return json.loads(json.dumps(PROGRAMS[name][1](pl), default=lambda value: value.item()))  # numpy's numbers
        finally:
            os.chdir(before)


def main() -> None:
    """Runs the programs of the Lightning that is installed."""
    warnings.simplefilter("ignore")
    import logging

    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    release = pl.__version__
    found = {}
    for name, (releases, _) in PROGRAMS.items():
        if release in releases:
            found[name] = run_program(name, pl)
    if sys.argv[1] == "--check":
        recorded = json.loads(Path(sys.argv[2]).read_text())
        differ = sorted(name for name in found.keys() | recorded.keys() if found.get(name) != recorded.get(name))
        print(release, len(found), "programs;", "as recorded" if not differ else f"not as recorded: {', '.join(differ)}")
        sys.exit(bool(differ))
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n")
    print(release, len(found), "programs")


if __name__ == "__main__":
    main()
