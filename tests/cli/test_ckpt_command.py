"""``leyden ckpt`` inspect, diff, convert and verify, on files of leyden and of Lightning."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import subprocess
import sys
import types
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from leyden import Module, Trainer
from leyden.testing import TinyModule
from leyden_cli.main import main
from torch import nn

DATA = Path(__file__).parent.parent / "data"
OPTIONS = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class Where(TinyModule):
    def __init__(self, root=Path("data"), lr=0.1):
        super().__init__(lr)
        self.save_hyperparameters()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


@pytest.fixture
def run():
    trainer = Trainer(max_epochs=1, **OPTIONS)
    trainer.fit(Where())
    trainer.save_checkpoint("run.ckpt")
    return trainer


def said(capsys, *words):
    """Exit code, standard output, standard error."""
    code = main(["ckpt", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


# ---- inspect ----


@pytest.mark.usefixtures("run")
def test_inspect_shows_what_a_file_holds(capsys):
    code, out, err = said(capsys, "inspect", "run.ckpt")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("run.ckpt, ")
    assert lines[1].startswith("written by     leyden 0.1.0, format ")
    assert lines[2] == "progress       1 epoch(s) done, step 4"
    assert "optimizer 0    2 parameters with exp_avg, exp_avg_sq, step; lr 0.1" in lines
    assert {"  root: 'data'", "  lr: 0.1", "  root: path"} < set(lines[lines.index("hyperparameters:") :])
    assert "weights: 2, 18 elements, 72 B" in lines
    assert lines[-2].split() == ["layer.weight", "[2,", "8]", "float32", "64", "B"]


def test_secrets_of_hyperparameters_are_not_shown(capsys):
    class Remote(TinyModule):
        def __init__(self, api_key):
            super().__init__()
            self.save_hyperparameters()

    for name in ("hunter2", "hunter22"):
        trainer = Trainer(max_epochs=1, **OPTIONS)
        trainer.fit(Remote(name))
        trainer.save_checkpoint(f"{name}.ckpt")
    shown = [said(capsys, *words)[1] for words in (["inspect", "hunter2.ckpt"], ["inspect", "hunter2.ckpt", "--json"])]
    shown.append(said(capsys, "diff", "hunter2.ckpt", "hunter22.ckpt")[1])
    assert "  api_key: '***'\n" in shown[0]
    assert "hyper_parameters.api_key: '***', and '***' in the second" in shown[2]
    assert "hunter2" not in "".join(shown).replace("hunter2.ckpt", "")


@pytest.mark.usefixtures("run")
def test_inspect_gives_the_same_as_json(capsys):
    code, out, _ = said(capsys, "inspect", "run.ckpt", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["epoch"], facts["batch"], facts["global_step"], facts["elements"]) == (1, 0, 4, 18)
    assert facts["weights"][0] == {"name": "layer.weight", "shape": [2, 8], "dtype": "float32", "bytes": 64}
    assert facts["hyper_parameters"] == {"root": "data", "lr": 0.1}
    assert facts["rebuilt"] == {"root": "path"}
    assert facts["bytes"] == Path("run.ckpt").stat().st_size


@pytest.mark.parametrize(
    ("file", "writer", "progress"),
    [
        ("lightning-2.6.6-inside-an-epoch.ckpt", "Lightning 2.6.6", "1 epoch(s) done, 1 batches into the next, step 3"),
        ("pytorch-lightning-1.9.5.ckpt", "Lightning 1.9.5", "1 epoch(s) done, step 2"),
    ],
)
def test_inspect_reads_lightnings_files(capsys, file, writer, progress):
    code, out, _ = said(capsys, "inspect", DATA / file)
    assert code == 0
    assert f"written by     {writer}\nprogress       {progress}\n" in out


def test_a_file_with_pickled_objects_is_explained(capsys):
    code, out, err = said(capsys, "inspect", DATA / "pytorch-lightning-1.9.5-pickled.ckpt")
    assert (code, out) == (1, "")
    assert "is refused: it names 'argparse.Namespace', 'myproject.options.Color'" in err


def test_a_file_that_is_missing_or_no_checkpoint(capsys):
    assert said(capsys, "inspect", "nowhere.ckpt") == (2, "", "leyden: ckpt: there is no checkpoint 'nowhere.ckpt'\n")
    Path("text.ckpt").write_text("import torch")
    code, _, err = said(capsys, "inspect", "text.ckpt")
    assert code == 1
    assert "'text.ckpt'" in err


def test_words_that_are_no_command_exit_with_2(capsys):
    for words in ([], ["look", "run.ckpt"], ["inspect"], ["diff", "a"]):
        with pytest.raises(SystemExit) as caught:
            said(capsys, *words)
        assert caught.value.code == 2


# ---- diff ----


def test_diff_of_equal_files(run, capsys):
    run.save_checkpoint("other.ckpt")
    assert said(capsys, "diff", "run.ckpt", "other.ckpt", "--weights") == (0, "no difference\n", "")


def test_diff_names_each_place(run, capsys):
    checkpoint = torch.load("run.ckpt", weights_only=True)
    checkpoint["state_dict"]["layer.weight"][1, 3] += 0.5
    checkpoint["state_dict"]["layer.bias"] = torch.zeros(3)
    checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 0.2
    checkpoint["mine"] = [1]
    del checkpoint["hyper_parameters"]["root"]
    torch.save(checkpoint, "other.ckpt")
    code, out, _ = said(capsys, "diff", "run.ckpt", "other.ckpt")
    assert code == 1
    lines = out.splitlines()
    assert "state_dict['layer.weight']: 1 of 16 elements differ, by 0.5 at most; the first at [1, 3]" in lines
    assert "state_dict['layer.bias']: tensor [2] float32, and tensor [3] float32 in the second" in lines
    assert "optimizer_states[0].param_groups[0].lr: 0.1, and 0.2 in the second" in lines
    assert "mine: only in the second file ([1])" in lines
    assert "hyper_parameters.root: only in the first file ('data')" in lines
    code, out, _ = said(capsys, "diff", "run.ckpt", "other.ckpt", "--limit", "1")
    assert out.splitlines()[1:] == ["and 4 more"]


def test_nan_in_the_same_place_is_no_difference(capsys):
    for file in ("one.ckpt", "two.ckpt"):
        torch.save({"state_dict": {"a": torch.tensor([float("nan"), 1])}, "x": float("nan")}, file)
    assert said(capsys, "diff", "one.ckpt", "two.ckpt")[:2] == (0, "no difference\n")


# ---- verify ----


@pytest.mark.usefixtures("run")
def test_verify_reads_the_checksums(capsys):
    assert said(capsys, "verify", "run.ckpt", DATA / "lightning-2.6.6.ckpt") == (
        0,
        f"run.ckpt: whole; 2 weights, step 4\n{DATA / 'lightning-2.6.6.ckpt'}: whole; 4 weights, step 2\n",
        "",
    )
    content = bytearray(Path("run.ckpt").read_bytes())
    weight = torch.load("run.ckpt", weights_only=True)["state_dict"]["layer.weight"].numpy().tobytes()
    content[content.index(weight) + 5] ^= 1
    Path("flipped.ckpt").write_bytes(content)
    code, out, err = said(capsys, "verify", "flipped.ckpt", "run.ckpt")
    assert (code, out) == (1, "run.ckpt: whole; 2 weights, step 4\n")
    assert "'flipped.ckpt' is damaged" in err
    assert "checksum differs" in err
    code, out, err = said(capsys, "verify", ".")
    assert (code, out) == (1, "run.ckpt: whole; 2 weights, step 4\n")
    assert "'flipped.ckpt' is damaged" in err
    assert said(capsys, "convert", "flipped.ckpt", "new.ckpt")[0] == 1
    Path("empty").mkdir()
    assert said(capsys, "verify", "empty") == (2, "", "leyden: ckpt: there is no *.ckpt file in 'empty'\n")


# ---- convert ----


@pytest.mark.usefixtures("run")
def test_convert_to_safetensors_and_to_a_plain_state_dict(capsys):
    from safetensors.torch import load_file

    weights = torch.load("run.ckpt", weights_only=True)["state_dict"]
    assert said(capsys, "convert", "run.ckpt", "run.safetensors")[:2] == (
        0,
        "run.safetensors: safetensors, 2 weights, from run.ckpt\n",
    )
    assert said(capsys, "convert", "run.ckpt", "deep/run.pt")[0] == 0
    for found in (load_file("run.safetensors"), torch.load("deep/run.pt", weights_only=True)):
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert said(capsys, "convert", "run.ckpt", "run.safetensors") == (
        2,
        "",
        "leyden: ckpt: 'run.safetensors' exists; pass --force to replace it\n",
    )
    assert said(capsys, "convert", "run.ckpt", "run.safetensors", "--force")[0] == 0


@pytest.mark.usefixtures("run")
def test_convert_to_lightnings_keys(capsys):
    assert said(capsys, "convert", "run.ckpt", "theirs.ckpt", "--to", "lightning")[0] == 0
    found = torch.load("theirs.ckpt", weights_only=True)
    real = torch.load(DATA / "lightning-2.6.6.ckpt", weights_only=True)
    assert real.keys() - found.keys() == {"hparams_name"}
    assert found["loops"]["fit_loop"].keys() == real["loops"]["fit_loop"].keys()
    assert (found["epoch"], found["global_step"]) == (1, 4)
    trainer = Trainer(max_epochs=2, **OPTIONS)
    trainer.fit(Where(), ckpt_path="theirs.ckpt")
    assert (trainer.current_epoch, trainer.global_step) == (2, 8)


def test_convert_keeps_pickled_objects_as_data(capsys, monkeypatch):
    file = DATA / "pytorch-lightning-1.9.5-pickled.ckpt"
    code, _, err = said(capsys, "convert", file, "new.ckpt")
    assert code == 1
    names = ["myproject.options.Color", "myproject.options.Size", "myproject.options.loss"]
    assert err.endswith(f"names {', '.join(map(repr, names))}; allow them, and what they hold is kept as data\n")
    assert not Path("new.ckpt").exists()

    assert said(capsys, "convert", file, "new.ckpt", *(word for name in names for word in ("--allow", name)))[0] == 0
    assert "myproject" not in sys.modules
    assert torch.load("new.ckpt", weights_only=True)["hyper_parameters"] == {
        "hparams": {"hidden": 4, "root": "data"},
        "loss": "myproject.options:loss",
        "color": "red",
        "size": {"width": 3},
        "where": "here",
    }

    class Color(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Size:
        width: int

    def loss(a, b):
        return (a - b).abs().mean()

    class Net(Module):
        def __init__(self, hparams, loss, color, size, where):
            super().__init__()
            self.given = (hparams, loss, color, size, where)
            self.net = nn.Sequential(nn.Linear(2, hparams.hidden), nn.Tanh(), nn.Linear(hparams.hidden, 1))

    options = types.ModuleType("myproject.options")
    monkeypatch.setitem(sys.modules, "myproject.options", options)
    allow = {"myproject.options:Color": Color, "myproject.options:Size": Size, "myproject.options:loss": loss}
    loaded = Net.load_from_checkpoint("new.ckpt", allow=allow)
    assert loaded.given == (Namespace(hidden=4, root=Path("data")), loss, Color.RED, Size(3), Path("here"))


def test_convert_never_calls_what_is_allowed(capsys):
    class Call:
        def __reduce__(self):
            return (subprocess.call, (["touch", "attacked"],))

    torch.save({"state_dict": {}, "hyper_parameters": {"x": Call()}}, "odd.ckpt")
    assert said(capsys, "convert", "odd.ckpt", "new.ckpt", "--allow", "subprocess.call")[0] == 0
    assert not Path("attacked").exists()
    assert torch.load("new.ckpt", weights_only=True)["hyper_parameters"] == {"x": [["touch", "attacked"]]}


def test_convert_reads_files_of_lightning_before_1_5(capsys, monkeypatch):
    # As 1.0 to 1.4 wrote them: callbacks under their classes, hyperparameters in a dict of Lightning's own, no loops.
    parsing = types.ModuleType("pytorch_lightning.utilities.parsing")
    callbacks = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    with monkeypatch.context() as theirs:
        for parent in ("pytorch_lightning", "pytorch_lightning.utilities", "pytorch_lightning.callbacks"):
            theirs.setitem(sys.modules, parent, types.ModuleType(parent))
        for made in (parsing, callbacks):
            theirs.setitem(sys.modules, made.__name__, made)
            exec("class AttributeDict(dict): pass\nclass ModelCheckpoint: pass", made.__dict__)
        module = TinyModule()
        torch.save(
            {
                "epoch": 1,
                "global_step": 4,
                "pytorch-lightning_version": "1.4.9",
                "state_dict": module.state_dict(),
                "callbacks": {callbacks.ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "best_model_path": "a.ckpt"}},
                "optimizer_states": [torch.optim.SGD(module.parameters(), lr=0.3).state_dict()],
                "lr_schedulers": [],
                "hparams_name": "hparams",
                "hyper_parameters": parsing.AttributeDict(lr=0.3, nested=Namespace(a=1)),
            },
            "old.ckpt",
        )
    names = [f"{callbacks.__name__}.ModelCheckpoint", f"{parsing.__name__}.AttributeDict"]
    found = said(capsys, "convert", "old.ckpt", "new.ckpt", *(word for name in names for word in ("--allow", name)))
    assert found == (0, "new.ckpt: leyden, 2 weights, from old.ckpt\n", "")
    found = torch.load("new.ckpt", weights_only=True)
    assert found["callbacks"] == {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "best_model_path": "a.ckpt"}}
    assert found["hyper_parameters"] == {"lr": 0.3, "nested": {"a": 1}}

    class Older(TinyModule):
        def __init__(self, hparams):
            super().__init__(hparams.lr)
            self.given = hparams

    loaded = Older.load_from_checkpoint("new.ckpt")
    assert (loaded.given.nested, loaded.lr) == (Namespace(a=1), 0.3)
    trainer = Trainer(max_epochs=2, **OPTIONS)
    trainer.fit(TinyModule(lr=0.1), ckpt_path="new.ckpt")
    assert (trainer.current_epoch, trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]) == (2, 8, 0.3)


def test_convert_takes_plain_things_without_being_told(capsys):
    given = {
        "counts": collections.defaultdict(list, a=[1]),
        "single": np.float32(1.5),
        "array": np.arange(3),
        "moment": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
        "frozen": frozenset([1]),
        "range": range(3),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "bytes": b"abc",
    }
    torch.save(
        {"state_dict": {"a": nn.Parameter(torch.ones(2)), "s": torch.eye(2).to_sparse()}, "hyper_parameters": given}, "old.ckpt"
    )
    assert said(capsys, "convert", "old.ckpt", "new.ckpt")[0] == 0

    class Takes(Module):
        def __init__(self, **given):
            super().__init__()
            self.given = given

    loaded = Takes.load_from_checkpoint("new.ckpt", exclude="*").given
    array = loaded.pop("array")
    assert array.dtype == given["array"].dtype
    assert np.array_equal(array, given.pop("array"))
    assert loaded == given
    assert [type(value) for value in loaded.values()] == [type(value) for value in given.values()]
