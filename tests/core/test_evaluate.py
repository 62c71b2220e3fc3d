"""validate and test: which batches, in which mode, and what they return."""

from __future__ import annotations

import pytest
import torch
from leyden import Callback, Logger, Trainer
from leyden.testing import RandomData, TinyDataModule, TinyModule
from torch import nn
from torch.utils.data import DataLoader

pytestmark = pytest.mark.usefixtures("core_alone")


def run(stage, *args, **options):
    return getattr(Trainer(), stage)(*args, **{"verbose": False, **options})


class Looks(TinyModule):
    """Notes the state in which its steps ran."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def validation_step(self, batch, batch_idx):
        self.seen.append((self.trainer.stage, self.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    test_step = predict_step = validation_step


@pytest.mark.parametrize(("stage", "prefix"), [("validate", "val"), ("test", "test")])
def test_a_run_returns_what_was_logged_for_each_loader(stage, prefix):
    module = TinyModule()
    [results] = run(stage, module)
    x, y = (RandomData(8, seed=1) if prefix == "val" else RandomData(8, seed=2))[:]
    assert set(results) == {f"{prefix}_loss", f"{prefix}_acc"}
    assert results[f"{prefix}_acc"] == (module(x).argmax(1) == y).float().mean().item()
    assert results[f"{prefix}_loss"] == pytest.approx(nn.functional.cross_entropy(module(x), y).item(), rel=1e-6)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_the_module_is_in_eval_mode_without_gradients(stage):
    module = Looks()
    run(stage, module)
    assert module.seen == [(stage, False, False, True)] * 2
    assert module.training


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_inference_mode_can_be_switched_off(stage):
    module = Looks()
    getattr(Trainer(inference_mode=False), stage)(module, verbose=False)
    assert module.seen == [(stage, False, False, False)] * 2


def test_the_modes_are_put_back_when_a_test_fails():
    class Fails(TinyModule):
        def __init__(self):
            super().__init__()
            self.frozen = nn.Dropout().eval()

        def test_step(self, batch, batch_idx):
            raise RuntimeError("the user's own")

    module = Fails()
    with pytest.raises(RuntimeError, match="the user's own"):
        run("test", module)
    assert (module.training, module.layer.training, module.frozen.training) == (True, True, False)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(("limit", "batches"), [(0, 0), (1, 1), (5, 2), (0.5, 1), (1.0, 2)])
def test_limits_count_batches_of_each_loader(limit, batches):
    module = Looks()
    trainer = Trainer(limit_test_batches=limit)
    loaders = [DataLoader(RandomData(8), batch_size=4), DataLoader(RandomData(8), batch_size=4)]
    trainer.test(module, loaders, verbose=False)
    assert trainer.num_test_batches == [batches, batches]
    assert len(module.seen) == 2 * batches


def test_results_of_several_loaders_are_apart():
    class Two(TinyModule):
        def test_step(self, batch, batch_idx, dataloader_idx):
            super().test_step(batch, batch_idx)

    module = Two()
    one, two = DataLoader(RandomData(6, seed=1), batch_size=4), DataLoader(RandomData(4, seed=2), batch_size=3)
    first, second = run("test", module, [one, two])
    assert set(first) == {"test_loss/dataloader_idx_0", "test_acc/dataloader_idx_0"}
    assert set(second) == {"test_loss/dataloader_idx_1", "test_acc/dataloader_idx_1"}
    alone = run("test", TinyModuleWith(module), two)[0]
    assert second["test_loss/dataloader_idx_1"] == alone["test_loss"]


def TinyModuleWith(module):  # reads as a constructor
    made = TinyModule()
    made.load_state_dict(module.state_dict())
    return made


def test_a_dict_of_loaders_is_several_loaders():
    seen = []

    class Two(TinyModule):
        def test_step(self, batch, batch_idx, dataloader_idx=0):
            seen.append((dataloader_idx, len(batch[0])))

    run("test", Two(), {"a": DataLoader(RandomData(2), batch_size=2), "b": DataLoader(RandomData(3), batch_size=3)})
    assert seen == [(0, 2), (1, 3)]


def test_a_dict_of_one_loader_is_one_loader():
    [results] = run("test", TinyModule(), {"a": DataLoader(RandomData(4), batch_size=2)})
    assert set(results) == {"test_loss", "test_acc"}


def test_batch_hooks_are_told_the_loader():
    seen = []

    class Notes(Callback):
        def on_test_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            seen.append(("start", batch_idx, dataloader_idx))

        def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
            seen.append((outputs, batch_idx, dataloader_idx))

    class Returns(TinyModule):
        def test_step(self, batch, batch_idx, dataloader_idx):
            return f"output {batch_idx} of {dataloader_idx}"

    Trainer(callbacks=[Notes()]).test(Returns(), [[(torch.zeros(1, 8),)] * 2, [(torch.zeros(1, 8),)]], verbose=False)
    assert seen == [
        ("start", 0, 0),
        ("output 0 of 0", 0, 0),
        ("start", 1, 0),
        ("output 1 of 0", 1, 0),
        ("start", 0, 1),
        ("output 0 of 1", 0, 1),
    ]


def test_results_are_printed_as_a_table(capsys):
    class Logs(TinyModule):
        def test_step(self, batch, batch_idx):
            self.log("accuracy", 0.5)

    Trainer().test(Logs())
    assert capsys.readouterr().out == "test      value\n--------  -----\naccuracy    0.5\n"


def test_results_of_several_loaders_are_printed_by_loader(capsys):
    class Logs(TinyModule):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            self.log("x", float(dataloader_idx), add_dataloader_idx=False)

    Trainer().validate(Logs(), [[(torch.zeros(1, 8),)], [(torch.zeros(1, 8),)]])
    assert capsys.readouterr().out == (
        "validate, loader 0  value\n------------------  -----\nx                       0\n"
        "validate, loader 1  value\n------------------  -----\nx                       1\n"
    )


def test_verbose_false_prints_nothing(capsys):
    run("test", TinyModule())
    assert capsys.readouterr().out == ""


def test_loggers_get_the_values_once_with_the_step_of_the_fit_before():
    class Memory(Logger):
        def __init__(self):
            self.records = []

        def log_metrics(self, metrics, step):
            self.records.append((step, set(metrics)))

    logger = Memory()
    trainer = Trainer(max_epochs=1, logger=logger)
    trainer.fit(TinyModule())
    logger.records.clear()
    trainer.test(verbose=False)
    assert logger.records == [(3, {"test_loss", "test_acc", "epoch"})]


def test_after_a_fit_the_module_and_its_data_need_not_be_given_again():
    datamodule = TinyDataModule()
    trainer = Trainer(max_epochs=1)
    module = TinyModule()
    trainer.fit(module, datamodule=datamodule)
    trainer.test(verbose=False)
    assert trainer.module is module
    assert trainer.datamodule is datamodule


def test_a_run_without_any_module_is_an_error():
    with pytest.raises(ValueError) as caught:
        Trainer().test()
    assert str(caught.value) == "trainer.test() was given no model and there was no fit before; pass the module"


def test_an_evaluation_leaves_parameters_and_counters_as_they_were():
    trainer = Trainer(max_epochs=1)
    module = TinyModule()
    trainer.fit(module)
    before = [p.detach().clone() for p in module.parameters()]
    progress = trainer.progress.state_dict()
    trainer.validate(verbose=False)
    trainer.test(verbose=False)
    assert trainer.progress.state_dict() == progress
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_validate_needs_no_configure_optimizers():
    from leyden import Module

    class Only(Module):
        def validation_step(self, batch, batch_idx):
            self.log("mean", batch.mean())

    assert run("validate", Only(), [torch.ones(2, 8)]) == [{"mean": 1.0}]


def test_hooks_of_modes_replace_eval_and_train():
    calls = []

    class Own(TinyModule):
        def on_test_model_eval(self):
            calls.append("eval")

        def on_test_model_train(self):
            calls.append("train")

        def test_step(self, batch, batch_idx):
            calls.append(self.training)

    run("test", Own())
    assert calls == ["eval", True, True, "train"]


@pytest.mark.parametrize("stage", ["validate", "test", "predict", "fit", "batches"])
def test_a_run_inside_of_a_run_is_refused(stage):
    class Asks(Callback):
        def on_train_epoch_end(self, trainer, module):
            getattr(trainer, stage)(module)

    trainer = Trainer(max_epochs=1, callbacks=Asks())
    with pytest.raises(RuntimeError) as error:
        trainer.fit(TinyModule())
    assert str(error.value) == (
        f"trainer.{stage}() was called while trainer.fit() runs; call it afterwards, or have fit validate when you want it with "
        f"Trainer(val_check_interval=...)"
    )
    assert getattr(trainer, stage)(TinyModule()) if stage not in ("fit", "batches") else trainer.test(TinyModule(), verbose=False)
