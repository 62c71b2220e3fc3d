"""What no release of Lightning that still runs has: dicts with ``log``, manual steps of 1.0, attributes of modules, and so on."""

from __future__ import annotations

import sys
from argparse import Namespace

import leyden
import leyden_lightning as pl
import pytest
import torch
from leyden_lightning.demos.boring_classes import BoringModel, ManualOptimBoringModel
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.filterwarnings("ignore::leyden.LeydenWarning")

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
         "accelerator": "cpu", "devices": 1, "max_epochs": 1}  # fmt: skip


def fit(module, *, train=4, val=0, trainer=None, **options):
    trainer = trainer or pl.Trainer(**{**QUIET, "limit_train_batches": train, "limit_val_batches": val, **options})
    trainer.fit(module)
    return trainer


class Recorder(leyden.Logger):
    def __init__(self):
        self.records = []

    def log_metrics(self, metrics, step):
        self.records.append((step, dict(metrics)))


# ---- dicts of 0.9 ----


def test_log_and_progress_bar_in_a_returned_dict_go_where_they_say():
    class Module(BoringModel):
        def training_step(self, batch, batch_idx):
            loss = self.step(batch)
            return {"loss": loss, "log": {"logged": loss}, "progress_bar": {"shown": loss}, "kept": loss * 2}

    recorder = Recorder()
    trainer = fit(Module(), logger=recorder, log_every_n_steps=1)
    assert [set(metrics) for _, metrics in recorder.records] == [{"logged", "epoch"}] * 4
    assert set(trainer.progress_bar_metrics) == {"shown"}
    assert {"logged", "shown", "kept"} <= set(trainer.callback_metrics)
    assert "loss" not in trainer.callback_metrics


def test_what_an_epoch_end_returns_can_be_monitored():
    class Module(BoringModel):
        def validation_epoch_end(self, outputs):
            mean = torch.stack([output["x"] for output in outputs]).mean()
            return {"val_loss": mean, "log": {"eval_loss": mean}}

        def training_epoch_end(self, outputs):
            return {"log": {"train_mean": torch.stack([output["loss"] for output in outputs]).mean()}}

    recorder = Recorder()
    stopping = pl.callbacks.EarlyStopping()
    trainer = fit(Module(), val=2, logger=recorder, callbacks=[stopping], num_sanity_val_steps=0)
    assert float(stopping.best_score) == float(trainer.callback_metrics["val_loss"])
    assert any("eval_loss" in metrics for _, metrics in recorder.records)
    assert not any("val_loss" in metrics for _, metrics in recorder.records)
    assert "train_mean" in trainer.callback_metrics


def test_an_epoch_end_may_return_nothing_or_anything():
    class Module(BoringModel):
        def validation_epoch_end(self, outputs):
            return 7

        def training_epoch_end(self, outputs):
            return None

    assert fit(Module(), val=1).global_step == 4


# ---- manual optimization of 1.0 ----


def test_manual_backward_takes_the_optimizer_that_1_0_asked_for():
    class Module(ManualOptimBoringModel):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            loss = self.step(batch)
            optimizer.zero_grad()
            self.manual_backward(loss, optimizer)
            optimizer.step()

    assert fit(Module()).global_step == 4


def test_manual_optimizer_step_steps_when_a_window_is_full_unless_forced():
    steps = []

    class Module(BoringModel):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            loss = self.step(batch)
            self.manual_backward(loss, optimizer)
            before = self.layer.weight.detach().clone()
            self.manual_optimizer_step(optimizer, force_optimizer_step=batch_idx == 2)
            steps.append((not torch.equal(before, self.layer.weight), self.layer.weight.grad is None))

    fit(Module(), automatic_optimization=False, accumulate_grad_batches=2)
    assert steps == [(False, False), (True, True), (True, True), (True, True)]


def test_automatic_optimization_can_be_a_property_an_attribute_or_an_argument():
    class Property(ManualOptimBoringModel):
        @property
        def automatic_optimization(self):
            return False

        @automatic_optimization.setter
        def automatic_optimization(self, value):
            pass

    assert fit(Property()).global_step == 4
    assert fit(ManualOptimBoringModel()).global_step == 4


def test_toggling_takes_an_index_too():
    class Module(ManualOptimBoringModel):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            self.toggle_optimizer(optimizer, 0)
            self.manual_backward(self.step(batch))
            optimizer.step()
            optimizer.zero_grad()
            self.untoggle_optimizer(0)

    assert fit(Module()).global_step == 4


def test_a_manual_step_of_today_is_left_alone_after_its_first_call():
    frames = []

    class Module(BoringModel):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.manual_backward(self.step(batch))
            self.optimizers().step()

        def on_before_backward(self, loss):
            frame, names = sys._getframe(1), []
            while frame.f_code.co_name != "training_step":
                names.append(frame.f_code.co_filename)
                frame = frame.f_back
            frames.append(any("leyden_lightning" in name for name in names))

    fit(Module())
    assert frames == [True, False, False, False]


# ---- arguments of self.log ----


def test_log_takes_the_arguments_of_1_0():
    class Module(BoringModel):
        def training_step(self, batch, batch_idx):
            loss = self.step(batch)
            self.log("a", loss, tbptt_reduce_fx=torch.mean, tbptt_pad_token=0, sync_dist_op="mean", on_epoch=True)
            self.log_dict({"b": loss}, tbptt_pad_token=0)
            return loss

    assert {"a", "a_step", "a_epoch", "b"} <= set(fit(Module()).callback_metrics)


# ---- attributes ----


def test_attributes_of_1_0_before_and_in_a_run():
    seen = {}

    class Module(BoringModel):
        def training_step(self, batch, batch_idx):
            seen.update(precision=self.precision, amp=self.use_amp, ddp=self.use_ddp, dp=self.use_dp, tpu=self.use_tpu)
            return super().training_step(batch, batch_idx)

    module = Module()
    assert (module.precision, module.use_amp, module.global_rank, module.local_rank, module.logger) == (
        "32-true",
        False,
        0,
        0,
        None,
    )
    fit(module)
    assert seen == {"precision": "32-true", "amp": False, "ddp": False, "dp": False, "tpu": False}
    assert seen["precision"] == 32
    assert seen["precision"] == "32"
    fit(module, precision="bf16")
    assert seen["precision"] == "bf16"
    assert seen["precision"] != 16
    assert seen["amp"] is True


def test_a_modules_own_attribute_of_such_a_name_goes_first():
    module = BoringModel()
    module.precision = nn.Linear(2, 2)
    module.datamodule = "mine"
    assert isinstance(module.precision, nn.Linear)
    assert module.datamodule == "mine"


def test_assigning_hparams_keeps_them():
    class Module(BoringModel):
        def __init__(self, hparams):
            super().__init__()
            self.hparams = hparams

    module = Module(Namespace(lr=0.5, layers=2))
    assert module.hparams.lr == 0.5
    trainer = fit(module)
    trainer.save_checkpoint("a.ckpt")
    assert Module.load_from_checkpoint("a.ckpt").hparams.layers == 2


def test_logger_summary_scalar_of_a_tutorial_is_a_value_for_the_logger():
    class Module(BoringModel):
        def training_step(self, batch, batch_idx):
            loss = self.step(batch)
            self.logger.summary.scalar("loss", loss)
            return loss

    recorder = Recorder()
    fit(Module(), logger=recorder)
    assert [(step, list(metrics)) for step, metrics in recorder.records][:4] == [(step, ["loss"]) for step in range(4)]


def test_get_progress_bar_dict_says_what_the_bar_shows(capfd):
    shown = []

    class Module(BoringModel):
        def get_progress_bar_dict(self):
            items = super().get_progress_bar_dict()
            items.pop("v_num", None)
            shown.append(items)
            return items

    fit(Module(), enable_progress_bar=True, logger=pl.loggers.CSVLogger("logs"))
    assert "loss" in shown[-1]
    text = capfd.readouterr().err
    assert "loss=" in text
    assert "v_num" not in text


def test_print_prints_on_rank_0_only(capsys):
    class Module(BoringModel):
        def on_train_start(self):
            self.print("a", 1)
            self.trainer.strategy.rank = 1
            self.print("b")
            self.trainer.strategy.rank = 0

    fit(Module(), train=1)
    assert capsys.readouterr().out == "a 1\n"


# ---- hooks ----


def test_hooks_that_2_x_ignores_in_silence_are_called():
    calls = []

    class Module(BoringModel):
        def on_pretrain_routine_start(self):
            calls.append("on_pretrain_routine_start")

        def on_pretrain_routine_end(self):
            calls.append("on_pretrain_routine_end")

        def on_epoch_start(self):
            calls.append("on_epoch_start")

        def on_epoch_end(self):
            calls.append("on_epoch_end")

        def on_batch_start(self):
            calls.append("on_batch_start")

        def on_batch_end(self):
            calls.append("on_batch_end")

    fit(Module(), train=1)
    assert calls == ["on_pretrain_routine_start", "on_pretrain_routine_end", "on_epoch_start", "on_batch_start", "on_batch_end",
                     "on_epoch_end"]  # fmt: skip


def test_callbacks_of_1_x_are_called():
    calls = []

    class Old(pl.Callback):
        def on_init_start(self, trainer):
            calls.append("init_start")

        def on_init_end(self, trainer):
            calls.append("init_end")

        def on_epoch_start(self, trainer, pl_module):
            calls.append("epoch_start")

        def on_batch_end(self, trainer, pl_module):
            calls.append("batch_end")

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx):
            calls.append(("start", dataloader_idx))

        def on_train_epoch_end(self, trainer, pl_module, unused=None):
            calls.append("train_epoch_end")

        def on_before_optimizer_step(self, trainer, pl_module, optimizer, opt_idx):
            calls.append(("step", opt_idx))

    fit(BoringModel(), train=1, callbacks=[Old()])
    assert calls == ["init_start", "init_end", "epoch_start", ("start", 0), ("step", 0), "batch_end", "train_epoch_end"]


def test_on_keyboard_interrupt_and_a_fit_that_returns():
    calls = []

    class Old(pl.Callback):
        def on_keyboard_interrupt(self, trainer, pl_module):
            calls.append("interrupted")

    class Module(BoringModel):
        def on_train_batch_start(self, batch, batch_idx):
            raise KeyboardInterrupt

    trainer = fit(Module(), callbacks=[Old()])
    assert calls == ["interrupted"]
    assert trainer.interrupted
    assert trainer.state.status == "interrupted"


def test_an_index_of_the_optimizer_by_another_name():
    turns = []

    class Module(BoringModel):
        def training_step(self, batch, batch_nb, opt_idx):
            turns.append((batch_nb, opt_idx))
            return self.step(batch)

        def configure_optimizers(self):
            return [torch.optim.SGD(self.parameters(), lr=0.1), torch.optim.SGD(self.parameters(), lr=0.1)]

    trainer = fit(Module(), train=2)
    assert turns == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert (trainer.global_step, trainer.batches_stepped) == (4, 2)


@pytest.mark.parametrize(
    "signature",
    [
        "epoch, batch_idx, optimizer, optimizer_idx, second_order_closure=None",
        "current_epoch, batch_nb, optimizer, optimizer_i, second_order_closure, on_tpu, using_native_amp, using_lbfgs",
        "epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_lbfgs",
        "epoch, batch_idx, optimizer, optimizer_closure",
        "a, b, c, d",
        "a, b, c, d, e, f, g, h",
        "*args, **kwargs",
    ],
)
def test_every_signature_that_optimizer_step_ever_had(signature):
    body = {
        "*args, **kwargs": "args[2].step(closure=args[3])",
        "a, b, c, d": "c.step(closure=d)",
        "a, b, c, d, e, f, g, h": "c.step(closure=e)",
    }.get(signature)
    closure = next((name for name in ("second_order_closure", "optimizer_closure") if name in signature), None)
    namespace = {}
    exec(f"def optimizer_step(self, {signature}):\n    {body or f'optimizer.step(closure={closure})'}\n", namespace)
    plain, module = BoringModel(), type("Module", (BoringModel,), {"optimizer_step": namespace["optimizer_step"]})()
    module.load_state_dict(plain.state_dict())
    data = DataLoader(torch.ones(4, 32), batch_size=2)
    for each in (plain, module):
        pl.Trainer(**QUIET).fit(each, data)
    assert torch.equal(plain.layer.weight, module.layer.weight)


def test_time_is_split_by_an_override_and_dicts_too():
    shapes = []

    class Module(BoringModel):
        def training_step(self, batch, batch_idx, hiddens):
            shapes.append(tuple(batch["x"].shape))
            return {
                "loss": self.layer(batch["x"].expand(-1, 32) if batch["x"].shape[1] == 1 else batch["x"]).mean(),
                "hiddens": 1,
            }

    module = Module()
    data = [{"x": torch.ones(3, 64), "y": [1, 2, 3]}]
    pl.Trainer(truncated_bptt_steps=32, **QUIET).fit(module, data)
    assert shapes == [(3, 32), (3, 32)]

    class Splitting(Module):
        def tbptt_split_batch(self, batch, split_size):
            return [{"x": part} for part in batch["x"].split(split_size, dim=1)][:1]

    shapes.clear()
    pl.Trainer(truncated_bptt_steps=32, **QUIET).fit(Splitting(), data)
    assert shapes == [(3, 32)]


# ---- what a use says, and what it costs ----


@pytest.mark.filterwarnings("default::leyden_lightning.LegacyWarning")
def test_a_method_of_old_is_named_once_with_its_file_and_line():
    class Module(BoringModel):
        def validation_epoch_end(self, outputs):
            pass

    with pytest.warns(pl.LegacyWarning) as caught:
        assert [fit(Module(), train=1, val=1).global_step, fit(Module(), train=1, val=1).global_step] == [1, 1]
    assert len(caught) == 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, Module.validation_epoch_end.__code__.co_firstlineno)
    assert "validation_epoch_end(outputs) is of an older Lightning" in str(caught[0].message)


def calls_of_a_fit(trainer, module, batches):
    counted = 0
    leydens = ("leyden", "leyden_lightning")

    def count(frame, event, arg):
        nonlocal counted
        if event == "call" and str(frame.f_globals.get("__name__", "")).partition(".")[0] in leydens:
            counted += 1

    data = [torch.ones(1, 32)] * batches
    sys.setprofile(count)
    try:
        trainer.fit(module, data)
    finally:
        sys.setprofile(None)
    return counted


def test_a_modern_module_costs_no_more_calls_a_batch_than_without_the_port(monkeypatch):
    class Modern(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            return self.layer(batch).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def per_batch(make):
        return calls_of_a_fit(make(), Modern(), 40) - calls_of_a_fit(make(), Modern(), 20)

    with_port = per_batch(lambda: pl.Trainer(**QUIET))
    monkeypatch.setenv("LEYDEN_DISABLE_PLUGINS", "leyden-lightning")
    without = per_batch(lambda: leyden.Trainer(**QUIET))
    assert with_port == without


def test_nothing_of_an_adapter_is_left_on_a_module_after_a_run():
    class Module(BoringModel):
        def training_epoch_end(self, outputs):
            pass

        def training_step_end(self, outputs):
            return outputs

    module = Module()
    trainer = fit(module)
    assert "training_step" not in vars(module)
    assert [p.name for p in trainer.bus.participants if "epoch ends" in p.name] == []


def test_loaders_of_one_list_are_combined_as_the_trainer_says():
    sizes = []

    class Module(BoringModel):
        def training_step(self, batch, batch_idx):
            sizes.append(len(batch))
            return self.layer(batch[0][0]).mean()

    def loader(length):
        return DataLoader(TensorDataset(torch.ones(length, 32)), batch_size=1)

    pl.Trainer(multiple_trainloader_mode="min_size", **QUIET).fit(Module(), [loader(2), loader(5)])
    assert sizes == [2, 2]


@pytest.mark.parametrize("takes", ["checkpoint", "trainer, pl_module, checkpoint", "trainer, checkpoint", "*args"])
def test_a_hook_of_today_is_passed_the_checkpoint_whatever_it_names(takes, tmp_path):
    scope = {}
    last = "args[-1]" if "*" in takes else "checkpoint"
    exec(f"def on_save_checkpoint(self, {takes}):\n    {last}['mine'] = 3\n", scope)
    callback = type("Mine", (leyden.Callback,), {"on_save_checkpoint": scope["on_save_checkpoint"]})()
    trainer = leyden.Trainer(**QUIET, callbacks=[callback], limit_train_batches=1, limit_val_batches=0)
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["mine"] == 3


@pytest.mark.parametrize("style", ["documented", "released", "tensors"])
def test_step_end_is_given_the_parts_of_all_replicas_under_dp(style):
    """D05: indexed by replica as the documentation had it, by key as the releases did; the loss keeps its graph."""
    seen = []

    class Ends(BoringModel):
        def training_step(self, batch, batch_idx):
            loss = self.layer(batch).pow(2).mean()
            return loss if style == "tensors" else {"output": loss, "n": len(batch)}

        def training_step_end(self, outputs):
            seen.append(len(outputs))
            if style == "documented":
                return (outputs[0]["output"] + outputs[1]["output"]) / 2
            return outputs.mean() if style == "tensors" else {"loss": outputs["output"].mean(), "n": outputs["n"]}

        def train_dataloader(self):
            return DataLoader(TensorDataset(torch.arange(256.0).reshape(8, 32) / 256), batch_size=4, collate_fn=stacked)

    def stacked(rows):
        return torch.stack([row[0] for row in rows])

    def trained(**options):
        torch.manual_seed(0)
        module = Ends()
        if not options:
            module.training_step_end = lambda outputs: outputs if style == "tensors" else outputs["output"]
        fit(module, train=2, **options)
        return module.layer.weight.detach()

    several = trained(strategy="dp", devices=2)
    assert seen == [2, 2]
    torch.testing.assert_close(several, trained())
