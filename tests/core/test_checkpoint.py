"""What a checkpoint holds, and what comes back from it."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections import deque
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from leyden import Callback, CheckpointIO, DataModule, Logger, Module, Trainer
from leyden.messages import LeydenWarning
from leyden.testing import RandomData, TinyModule
from torch import nn
from torch.utils.data import DataLoader

pytestmark = pytest.mark.usefixtures("core_alone")


class Adam(TinyModule):
    """Has an optimizer and a scheduler with state."""

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)]


def data():
    return DataLoader(RandomData(16), batch_size=4)


def fitted(module=None, path="run.ckpt", *, weights_only=False, callbacks=(), datamodule=None, **options):
    """A Trainer after a fit whose checkpoint is ``path``."""
    trainer = Trainer(**{"max_epochs": 1, "callbacks": list(callbacks), **options})
    trainer.fit(module or Adam(), datamodule=datamodule)
    trainer.save_checkpoint(path, weights_only=weights_only)
    return trainer


def read(path="run.ckpt"):
    return torch.load(path, weights_only=True)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# ---- what is saved ----


def test_a_checkpoint_has_lightnings_keys():
    class Counts(Callback):
        def state_dict(self):
            return {"count": 3}

    class Data(DataModule):
        def state_dict(self):
            return {"position": 5}

    trainer = fitted(callbacks=[Counts()], datamodule=Data())
    checkpoint = read()
    assert list(checkpoint) == [
        "epoch", "global_step", "state_dict", "leyden", "hyper_parameters", "optimizer_states", "lr_schedulers", "callbacks",
        "test_a_checkpoint_has_lightnings_keys.<locals>.Data",
    ]  # fmt: skip
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 4)
    assert checkpoint["hyper_parameters"] == {"lr": 0.1}
    assert checkpoint["callbacks"] == {"test_a_checkpoint_has_lightnings_keys.<locals>.Counts": {"count": 3}}
    assert checkpoint["test_a_checkpoint_has_lightnings_keys.<locals>.Data"] == {"position": 5}
    assert set(checkpoint["state_dict"]) == {"layer.weight", "layer.bias"}
    assert set(checkpoint["optimizer_states"][0]) == {"state", "param_groups"}
    assert checkpoint["lr_schedulers"][0]["last_epoch"] == 1
    assert checkpoint["leyden"]["progress"] == trainer.progress.state_dict()


def test_a_checkpoint_loads_where_leyden_is_not_installed():
    fitted()
    code = (
        "import sys; sys.modules['leyden'] = None; import torch; "
        "print(torch.load('run.ckpt', weights_only=True)['state_dict']['layer.bias'].shape)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "torch.Size([2])\n"


def test_weights_only_leaves_out_what_only_training_needs():
    fitted(weights_only=True)
    assert list(read()) == ["epoch", "global_step", "state_dict", "leyden", "hyper_parameters"]


def test_hooks_may_add_to_a_checkpoint_and_are_handed_it_back():
    given = []

    class Adds(Callback):
        def on_save_checkpoint(self, trainer, module, checkpoint):
            checkpoint["mine"] = {"numbers": [1, 2]}

        def on_load_checkpoint(self, trainer, module, checkpoint):
            given.append(checkpoint["mine"])

    class AddsToo(Adam):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["modules"] = checkpoint["mine"]["numbers"][0]

        def on_load_checkpoint(self, checkpoint):
            given.append(checkpoint["modules"])

    fitted(AddsToo(), callbacks=[Adds()])
    Trainer(callbacks=[Adds()]).test(AddsToo(), ckpt_path="run.ckpt", verbose=False)
    assert given == [1, {"numbers": [1, 2]}]


def test_the_hooks_of_a_save_are_the_same_during_a_run_and_after_it():
    class Adds(Adam):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["calls"] = checkpoint.get("calls", 0) + 1

        def on_train_epoch_end(self):
            self.trainer.save_checkpoint("during.ckpt")

    fitted(Adds())
    assert read("during.ckpt")["calls"] == read("run.ckpt")["calls"] == 1


def test_values_that_are_nearly_plain_are_saved_as_plain_data():
    class Color(Enum):
        RED = "red"

    class Adds(Callback):
        def state_dict(self):
            return {
                "path": Path("a/b"),
                "enum": Color.RED,
                "numpy": np.float64(1.5),
                "array": np.arange(3),
                "set": {1},
                "deque": deque([1, 2]),
                "namespace": Namespace(a=1),
                "tuple": (1, "b"),
                "parameter": nn.Parameter(torch.ones(1)),
            }

    fitted(callbacks=[Adds()])
    [state] = read()["callbacks"].values()
    assert torch.equal(state.pop("array"), torch.arange(3))
    assert torch.equal(state.pop("parameter"), torch.ones(1))
    assert state == {
        "path": "a/b",
        "enum": "red",
        "numpy": 1.5,
        "set": [1],
        "deque": [1, 2],
        "namespace": {"a": 1},
        "tuple": (1, "b"),
    }


def test_state_that_is_not_plain_is_an_error_that_says_where():
    class Odd(Callback):
        def state_dict(self):
            return {"list": [1, {"deep": object()}]}

    trainer = Trainer(max_epochs=1, callbacks=[Odd()])
    trainer.fit(Adam())
    with pytest.raises(TypeError) as caught:
        trainer.save_checkpoint("run.ckpt")
    key = "test_state_that_is_not_plain_is_an_error_that_says_where.<locals>.Odd"
    assert str(caught.value) == (
        "a checkpoint holds tensors, numbers, strings, lists and dicts only, but "
        f"callbacks['{key}']['list'][1]['deep'] is a builtins.object; save what it is made of instead"
    )
    assert not Path("run.ckpt").exists()


def test_hyperparameters_that_are_not_plain_are_left_out_with_a_warning():
    class Takes(TinyModule):
        def __init__(self, size, loss, lr=0.1):
            super().__init__(lr)
            self.save_hyperparameters()

    trainer = Trainer(max_epochs=1)
    trainer.fit(Takes(3, nn.ReLU()))
    with pytest.warns(LeydenWarning) as caught:
        trainer.save_checkpoint("run.ckpt")
    assert [str(warning.message) for warning in caught] == [
        "Takes: hyperparameters 'loss' are not plain data and are not in the checkpoint; pass them to load_from_checkpoint(), "
        "and silence this with save_hyperparameters(ignore=['loss'])"
    ]
    assert read()["hyper_parameters"] == {"lr": 0.1, "size": 3}


def test_two_stateful_callbacks_of_one_key_are_an_error():
    class Counts(Callback):
        def state_dict(self):
            return {"count": 1}

    trainer = Trainer(max_epochs=1, callbacks=[Counts(), Counts()])
    trainer.fit(Adam())
    with pytest.raises(ValueError) as caught:
        trainer.save_checkpoint("run.ckpt")
    name = "test_two_stateful_callbacks_of_one_key_are_an_error.<locals>.Counts"
    assert str(caught.value) == (
        f"two callbacks of class {name} have the same state_key '{name}', so a checkpoint could keep one of them only; "
        "override state_key, adding the options that tell them apart"
    )


def test_saving_before_any_run_is_an_error():
    with pytest.raises(RuntimeError) as caught:
        Trainer().save_checkpoint("run.ckpt")
    assert str(caught.value) == "there is nothing to save: no module was given to this Trainer yet"


def test_storage_options_belong_to_the_checkpoint_io():
    with pytest.raises(ValueError) as caught:
        fitted().save_checkpoint("other.ckpt", storage_options={"a": 1})
    assert str(caught.value) == ("storage_options={'a': 1}: options belong to the Trainer's checkpoint_io, which writes the file")


def test_a_checkpoint_is_no_file_of_safetensors(tmp_path):
    with pytest.raises(ValueError) as caught:
        fitted().save_checkpoint("run.safetensors")
    assert str(caught.value) == (
        "save_checkpoint('run.safetensors'): files of safetensors hold tensors alone, and a checkpoint has more; name it .ckpt"
        ", or save the weights by safetensors.torch.save_file(module.state_dict(), ...)"
    )


# ---- writing ----


def test_a_directory_that_is_missing_is_made():
    fitted(path="deep/er/run.ckpt")
    assert [path.name for path in Path("deep/er").iterdir()] == ["run.ckpt"]


def test_a_checkpoint_may_go_to_a_url():
    trainer = fitted(path="memory://place/run.ckpt")
    other = Adam()
    Trainer().test(other, ckpt_path="memory://place/run.ckpt", verbose=False)
    assert same(trainer.module, other)


def test_a_save_that_is_interrupted_keeps_the_old_file_and_leaves_no_temporary(monkeypatch):
    trainer = fitted(Adam())
    before = Path("run.ckpt").read_bytes()

    def half(checkpoint, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint("run.ckpt")
    assert Path("run.ckpt").read_bytes() == before
    assert [path.name for path in Path.cwd().iterdir()] == ["run.ckpt"]


def test_loggers_are_told_of_a_checkpoint():
    told = []

    class Told(Logger):
        def after_save_checkpoint(self, path):
            told.append(path)

    fitted(path=Path("run.ckpt"), logger=Told())
    assert told == ["run.ckpt"]


def test_a_checkpoint_io_of_the_user_writes_and_reads():
    calls = []

    class Notes(CheckpointIO):
        def save(self, checkpoint, path):
            calls.append(("save", path))
            super().save(checkpoint, path)

        def load(self, path, map_location="cpu"):
            calls.append(("load", path))
            return super().load(path, map_location)

    trainer = fitted(checkpoint_io=Notes())
    trainer.test(Adam(), ckpt_path="run.ckpt", verbose=False)
    assert calls == [("save", "run.ckpt"), ("load", "run.ckpt")]


# ---- continuing ----


@pytest.mark.parametrize("at", [1, 2])
def test_a_fit_resumed_at_an_epochs_end_equals_the_uninterrupted_one(at):
    torch.manual_seed(1)
    whole = Adam()
    resumed = Adam()
    resumed.load_state_dict(whole.state_dict())

    records = {"whole": [], "resumed": []}

    class Memory(Logger):
        def __init__(self, kept):
            self.kept = kept

        def log_metrics(self, metrics, step):
            self.kept.append((step, dict(metrics)))

    options = {"log_every_n_steps": 1}
    one = Trainer(max_epochs=3, logger=Memory(records["whole"]), **options)
    one.fit(whole, data())
    first = Trainer(max_epochs=at, logger=Memory(records["resumed"]), **options)
    first.fit(resumed, data())
    first.save_checkpoint("run.ckpt")

    other = Adam()
    second = Trainer(max_epochs=3, logger=Memory(records["resumed"]), **options)
    second.fit(other, data(), ckpt_path="run.ckpt")
    assert same(whole, other)
    assert second.progress.state_dict() == one.progress.state_dict()
    assert second.lr_scheduler_configs[0].scheduler.get_last_lr() == one.lr_scheduler_configs[0].scheduler.get_last_lr()
    assert records["resumed"] == records["whole"]


def test_a_checkpoint_of_an_epochs_last_hook_resumes_with_the_next_epoch():
    class Saves(Callback):
        def on_train_epoch_end(self, trainer, module):
            if trainer.current_epoch == 0:
                trainer.save_checkpoint("first.ckpt")

    whole = Adam()
    trainer = Trainer(max_epochs=2, callbacks=[Saves()])
    trainer.fit(whole, data())
    assert read("first.ckpt")["epoch"] == 0
    resumed = Adam()
    second = Trainer(max_epochs=2)
    second.fit(resumed, data(), ckpt_path="first.ckpt")
    assert same(whole, resumed)
    assert (second.current_epoch, second.global_step) == (2, 8)


def test_a_checkpoint_inside_an_epoch_resumes_at_the_next_batch():
    seen = []

    class Saves(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.append((trainer.current_epoch, batch_idx))
            if trainer.global_step == 6:
                trainer.save_checkpoint("inside.ckpt")

    whole = Adam()
    Trainer(max_epochs=2, callbacks=[Saves()]).fit(whole, data())
    seen.clear()
    resumed = Adam()
    Trainer(max_epochs=2, callbacks=[Saves()]).fit(resumed, data(), ckpt_path="inside.ckpt")
    assert seen == [(1, 2), (1, 3)]
    assert same(whole, resumed)


def test_a_checkpoint_of_a_finished_run_trains_no_further():
    fitted()
    other = Adam()
    trainer = Trainer(max_epochs=1)
    trainer.fit(other, ckpt_path="run.ckpt")
    assert (trainer.current_epoch, trainer.global_step) == (1, 4)


def test_callbacks_get_their_state_back():
    class Counts(Callback):
        def __init__(self):
            self.count = 0

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state_dict):
            self.count = state_dict["count"]

    fitted(callbacks=[Counts()])
    again = Counts()
    Trainer(max_epochs=2, callbacks=[again]).fit(Adam(), ckpt_path="run.ckpt")
    assert again.count == 8


def test_an_evaluation_of_an_older_checkpoint_leaves_alone_what_a_fit_decided():
    class Counts(Callback):
        count = 0

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state_dict):
            self.count = state_dict["count"]

    class Decides(Counts):
        takes_state_in_evaluation = False

    fitted(callbacks=[Counts(), Decides()])
    callbacks = [Counts(), Decides()]
    trainer = Trainer(max_epochs=2, callbacks=callbacks)
    trainer.fit(Adam(), ckpt_path="run.ckpt")
    assert [callback.count for callback in callbacks] == [8, 8]
    trainer.test(ckpt_path="run.ckpt", verbose=False)
    assert [callback.count for callback in callbacks] == [4, 8]


def test_a_data_module_gets_its_state_back():
    class Data(DataModule):
        position = 7

        def train_dataloader(self):
            return data()

        def state_dict(self):
            return {"position": self.position}

        def load_state_dict(self, state_dict):
            self.position = state_dict["position"]

    fitted(datamodule=Data())
    again = Data()
    again.position = 0
    Trainer(max_epochs=1).fit(Adam(), datamodule=again, ckpt_path="run.ckpt")
    assert again.position == 7


def test_test_loads_the_weights_of_its_checkpoint():
    trainer = fitted()
    other = Adam()
    assert not same(trainer.module, other)
    found = Trainer().test(other, ckpt_path=Path("run.ckpt"), verbose=False)
    assert same(trainer.module, other)
    assert found == trainer.test(verbose=False)


def test_weights_cannot_be_trained_on():
    fitted(weights_only=True)
    with pytest.raises(ValueError) as caught:
        Trainer(max_epochs=2).fit(Adam(), ckpt_path="run.ckpt")
    assert str(caught.value) == (
        "this checkpoint has weights only, so training cannot continue from it; load the weights with load_from_checkpoint() "
        "and fit without ckpt_path"
    )


def test_another_number_of_schedulers_cannot_be_trained_on():
    fitted()
    with pytest.raises(ValueError) as caught:
        Trainer(max_epochs=2).fit(TinyModule(), ckpt_path="run.ckpt")
    assert str(caught.value) == (
        "training cannot continue from this checkpoint, because configure_optimizers returned something else: optimizer 0 was of "
        "class Adam, now it is of class SGD; the checkpoint has 1 scheduler(s) ('StepLR'), now there are 0. To train on with "
        "other optimizers, load the weights with load_from_checkpoint() and fit without ckpt_path"
    )


def test_best_and_last_need_a_callback_that_knows():
    with pytest.raises(ValueError) as caught:
        Trainer().test(Adam(), ckpt_path="best")
    assert str(caught.value) == (
        "ckpt_path='best': no checkpoint callback of this Trainer knows of one, and there is none below "
        f"{str(Path.cwd())!r}; fit first, or pass a path"
    )


def test_a_callback_says_which_checkpoint_is_best():
    class Knows(Callback):
        def resolve_checkpoint(self, which):
            return "run.ckpt" if which == "best" else None

    trainer = fitted()
    other = Adam()
    Trainer(callbacks=[Knows()]).test(other, ckpt_path="best", verbose=False)
    assert same(trainer.module, other)


def test_without_module_and_path_a_test_uses_the_best_checkpoint_and_says_so(capsys):
    class Knows(Callback):
        def resolve_checkpoint(self, which):
            return "run.ckpt"

    trainer = fitted(callbacks=[Knows()])
    saved = {key: value.clone() for key, value in trainer.module.state_dict().items()}
    with torch.no_grad():
        trainer.module.layer.weight.zero_()
    trainer.test(verbose=False)
    assert torch.equal(trainer.module.layer.weight, saved["layer.weight"])
    assert capsys.readouterr().err == (
        "leyden: test was given no model and no ckpt_path: it uses the best checkpoint of the last fit [LY007]\n"
    )


# ---- files that are no checkpoints ----


def refused(path):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        Trainer().test(Adam(), ckpt_path=path)
    return str(caught.value)


def test_a_missing_file_is_named():
    assert refused("nowhere.ckpt") == "there is no checkpoint 'nowhere.ckpt'"


def test_a_file_of_weights_alone_is_no_checkpoint():
    torch.save(Adam().state_dict(), "weights.pt")
    assert refused("weights.pt") == (
        "'weights.pt' is not a checkpoint: it holds no 'state_dict'; it is a state_dict alone, which leyden.load_weights() loads"
    )


def test_each_of_two_schedulers_of_one_class_gets_its_own_state():
    class Two(TinyModule):
        def configure_optimizers(self):
            optimizers = [torch.optim.SGD([parameter], lr=0.1) for parameter in self.layer.parameters()]
            return optimizers, [
                torch.optim.lr_scheduler.StepLR(optimizers[0], 1, gamma=0.5),
                torch.optim.lr_scheduler.StepLR(optimizers[1], 2, gamma=0.9),
            ]

    def rates(trainer):
        return [(config.scheduler.step_size, *config.scheduler.get_last_lr()) for config in trainer.lr_scheduler_configs]

    saved = Trainer(max_epochs=1)
    saved.fit(Two())
    saved.save_checkpoint("two.ckpt")
    resumed, whole = Trainer(max_epochs=3), Trainer(max_epochs=3)
    resumed.fit(Two(), ckpt_path="two.ckpt")
    whole.fit(Two())
    assert rates(resumed) == rates(whole) == [(1, 0.0125), (2, pytest.approx(0.09))]


@pytest.mark.parametrize("method", ["fit", "test"])
def test_weights_only_false_is_refused(method):
    with pytest.raises(ValueError) as caught:
        getattr(Trainer(), method)(Adam(), weights_only=False)
    assert str(caught.value) == (
        "weights_only=False would run code named in the file; leyden reads plain data only, so leave it out"
    )


# ---- load_from_checkpoint ----


class Sized(TinyModule):
    def __init__(self, size, lr=0.1):
        super().__init__(lr)
        self.save_hyperparameters()
        self.extra = nn.Linear(size, 1)


def test_load_from_checkpoint_builds_the_module_that_was_saved():
    trainer = fitted(Sized(3, lr=0.2))
    loaded = Sized.load_from_checkpoint("run.ckpt")
    assert same(trainer.module, loaded)
    assert dict(loaded.hparams) == {"size": 3, "lr": 0.2}
    assert loaded.training


def test_keyword_arguments_replace_and_complete_hyperparameters():
    class Given(TinyModule):
        def __init__(self, loss, lr=0.1):
            super().__init__(lr)
            self.save_hyperparameters(ignore="loss")
            self.loss = loss

    fitted(Given("a"))
    loaded = Given.load_from_checkpoint("run.ckpt", loss="b", lr=0.5)
    assert (loaded.loss, loaded.lr, dict(loaded.hparams)) == ("b", 0.5, {"lr": 0.5})


def test_a_missing_argument_is_named():
    class Given(TinyModule):
        def __init__(self, loss, lr=0.1):
            super().__init__(lr)
            self.save_hyperparameters(ignore="loss")

    fitted(Given("a"))
    with pytest.raises(TypeError) as caught:
        Given.load_from_checkpoint("run.ckpt")
    assert str(caught.value) == (
        "Given needs 'loss', which 'run.ckpt' does not have; pass them: Given.load_from_checkpoint(path, loss=...)"
    )


def test_an_unknown_argument_is_named():
    fitted()
    with pytest.raises(TypeError) as caught:
        TinyModule.load_from_checkpoint("run.ckpt", rate=3)
    assert str(caught.value) == "TinyModule has no argument 'rate'; its arguments: 'lr'"


@pytest.mark.parametrize("kind", [Namespace, dict])
def test_hyperparameters_given_as_one_object_come_back_as_one(kind):
    class Takes(Module):
        def __init__(self, config, *, other=1):
            super().__init__()
            self.save_hyperparameters(config)
            self.config = config
            self.layer = nn.Linear(vars(config)["size"] if kind is Namespace else config["size"], 1)

    trainer = Trainer(max_epochs=0)
    module = Takes(kind(size=3, name="n"))
    module.training_step = lambda batch, batch_idx: None
    module.configure_optimizers = lambda: None
    trainer.fit(module, data())
    trainer.save_checkpoint("run.ckpt")
    loaded = Takes.load_from_checkpoint("run.ckpt", name="m")
    assert loaded.config == kind(size=3, name="m")
    assert same(module, loaded)


def test_weights_that_do_not_fit_name_file_and_class():
    fitted(Sized(3))
    with pytest.raises(RuntimeError) as caught:
        TinyModule.load_from_checkpoint("run.ckpt")
    assert str(caught.value) == (
        "the weights in 'run.ckpt' do not fit TinyModule:\n"
        "  not in the module: extra.weight\n"
        "  not in the module: extra.bias\n"
        "strict=False passes over names that only one side has"
    )
    assert TinyModule.load_from_checkpoint("run.ckpt", strict=False).lr == 0.1


def test_strict_loading_of_the_module_is_the_default():
    class Lax(TinyModule):
        strict_loading = False

    fitted(Sized(3))
    assert isinstance(Lax.load_from_checkpoint("run.ckpt"), Lax)
    with pytest.raises(RuntimeError):
        Lax.load_from_checkpoint("run.ckpt", strict=True)


def test_a_wrong_file_is_named_by_load_from_checkpoint():
    with pytest.raises(FileNotFoundError) as caught:
        TinyModule.load_from_checkpoint("nowhere.ckpt")
    assert str(caught.value) == "there is no checkpoint 'nowhere.ckpt'"


def test_an_hparams_file_is_refused():
    with pytest.raises(ValueError) as caught:
        TinyModule.load_from_checkpoint("run.ckpt", hparams_file="hparams.yaml")
    assert str(caught.value) == (
        "hparams_file='hparams.yaml': hyperparameters come from the checkpoint; pass others by keyword, as in "
        "TinyModule.load_from_checkpoint(path, lr=0.1)"
    )


def test_a_data_module_can_be_loaded_too():
    class Data(DataModule):
        def __init__(self, root, size=1):
            self.save_hyperparameters()
            self.position = 0

        def state_dict(self):
            return {"position": 4}

        def load_state_dict(self, state_dict):
            self.position = state_dict["position"]

    fitted(datamodule=Data("here", size=2))
    loaded = Data.load_from_checkpoint("run.ckpt", size=5)
    assert (dict(loaded.hparams), loaded.position) == ({"root": "here", "size": 5}, 4)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end", "on_train_end"])
@pytest.mark.parametrize(("max_epochs", "said"), [(2, 1), (3, 0)])
def test_a_checkpoint_of_a_run_at_its_limit_says_that_nothing_is_trained(hook, max_epochs, said, capsys):
    saves = type("Saves", (), {hook: lambda self, trainer: trainer.save_checkpoint("run.ckpt")})
    Trainer(max_epochs=2, callbacks=[saves()]).fit(TinyModule())
    Trainer(max_epochs=max_epochs).fit(TinyModule(), ckpt_path="run.ckpt")
    message = "the checkpoint is of a run that is at its limit already, after 2 epochs and 8 steps, so nothing is trained"
    assert capsys.readouterr().err.count(message) == said
