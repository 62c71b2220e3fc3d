"""Choosing which of a file's weights to load, and what is said when they do not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from leyden import Trainer, load_weights
from leyden.testing import TinyModule
from torch import nn

pytestmark = pytest.mark.usefixtures("core_alone")


class Parts(TinyModule):
    """An encoder, a head and a buffer, trained with Adam."""

    def __init__(self, width=4, lr=0.1):
        super().__init__(lr)
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(8, width), nn.BatchNorm1d(width))
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.encoder(x))

    def configure_optimizers(self):
        return torch.optim.Adam([*self.encoder.parameters(), *self.head.parameters()], lr=self.lr)


@pytest.fixture
def trained():
    module = Parts()
    trainer = Trainer(max_epochs=1)
    trainer.fit(module)
    trainer.save_checkpoint("run.ckpt")
    return module


def names(module):
    return list(module.state_dict())


def equals(module, other, prefix):
    mine, theirs = module.state_dict(), other.state_dict()
    return [name for name in mine if torch.equal(mine[name], theirs[name])] == [name for name in mine if name.startswith(prefix)]


def refused(*args, error=RuntimeError, **options):
    with pytest.raises(error) as caught:
        load_weights(*args, **options)
    return str(caught.value)


def test_weights_alone_are_loaded_from_what_torch_or_safetensors_saved(trained):
    safetensors = pytest.importorskip("safetensors.torch", reason="the extra for these files is not installed")
    torch.save(trained.state_dict(), "weights.pt")
    safetensors.save_file(trained.state_dict(), "weights.safetensors")
    for path in ("weights.pt", "weights.safetensors"):
        module = Parts()
        assert not load_weights(module, path)
        assert equals(module, trained, "")
        module = Parts()
        load_weights(module, path, include="encoder")
        assert equals(module, trained, "encoder")
        assert "has no state of optimizers" in refused(
            Parts(), path, optimizers=torch.optim.Adam(Parts().parameters()), error=ValueError
        )
    assert refused(Parts(), "weights.pt", rename={"encoder": "other"}).startswith("the weights in 'weights.pt' do not fit Parts:")


def test_a_file_of_weights_alone_is_no_run_and_says_what_loads_it(trained):
    torch.save(trained.state_dict(), "weights.pt")
    with pytest.raises(ValueError, match="it is a state_dict alone, which leyden"):
        Parts.load_from_checkpoint("weights.pt")
    torch.save({"model": 3}, "other.pt")
    assert refused(Parts(), "other.pt", error=ValueError) == "'other.pt' is not a checkpoint: it holds no 'state_dict'"


def test_a_file_of_safetensors_without_safetensors_says_what_to_install(trained, monkeypatch):
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    Path("weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert refused(Parts(), "weights.safetensors", error=ModuleNotFoundError) == (
        "'weights.safetensors' is a file of safetensors; to read it run: pip install safetensors"
    )


def test_a_damaged_file_of_safetensors_is_refused(trained):
    pytest.importorskip("safetensors.torch", reason="the extra for these files is not installed")
    header = b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'
    Path("weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(400))
    assert "is a file of safetensors that cannot be read" in refused(Parts(), "weights.safetensors", error=ValueError)


def test_all_weights_go_into_any_module(trained):
    plain = nn.Module()
    plain.layer, plain.encoder, plain.head = nn.Linear(8, 2), Parts().encoder, nn.Linear(4, 2)
    found = load_weights(plain, "run.ckpt")
    assert not found
    assert sorted(found.loaded) == sorted(names(trained))
    assert torch.equal(plain.head.weight, trained.head.weight)


def test_a_name_includes_everything_below_it(trained):
    other = Parts()
    found = load_weights(other, "run.ckpt", include="encoder")
    assert equals(other, trained, ("encoder", "layer.none"))
    assert found.loaded == [name for name in names(other) if name.startswith("encoder.")]
    assert found.left_out == [name for name in names(other) if not name.startswith("encoder.")]


@pytest.mark.parametrize(
    ("choice", "prefixes"),
    [
        ({"exclude": ["encoder", "layer"]}, ("head.weight", "head.bias")),
        ({"include": ["head.weight"]}, ("head.weight",)),
        ({"include": "*.weight", "exclude": ["layer", "encoder.*"]}, ("head.weight",)),
        ({"include": ["head", "encoder.0"], "exclude": "*.bias"}, ("head.weight", "encoder.0.weight")),
    ],
)
def test_patterns(trained, choice, prefixes):
    other = Parts()
    assert sorted(load_weights(other, "run.ckpt", **choice).loaded) == sorted(prefixes)
    for name in prefixes:
        assert torch.equal(other.state_dict()[name], trained.state_dict()[name])


def test_names_can_be_changed(trained):
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.ModuleDict({"backbone": Parts().encoder})

    other = Other()
    load_weights(other, "run.ckpt", include="encoder", rename={"encoder": "net.backbone"})
    assert torch.equal(other.net["backbone"][0].weight, trained.encoder[0].weight)
    load_weights(other.net, "run.ckpt", include="encoder", rename={"encoder.*.*": "backbone.*.*"})
    load_weights(other.net["backbone"], "run.ckpt", include="encoder", rename={"encoder": ""})
    whole = nn.ModuleDict({"model": Parts()})
    assert not load_weights(whole, "run.ckpt", rename={"": "model"})


def test_a_pattern_that_fits_nothing_is_refused_with_the_nearest(trained):
    assert refused(Parts(), "run.ckpt", include="encodr", error=ValueError) == (
        "include: 'encodr' fits no weight of the file; did you mean 'encoder'?"
    )
    assert refused(Parts(), "run.ckpt", rename={"head.wieght": "x"}, error=ValueError) == (
        "rename: 'head.wieght' fits no weight of the file; did you mean 'head.weight'?"
    )
    assert refused(Parts(), "run.ckpt", exclude=3 and [3], error=TypeError) == (
        "exclude=[3]: expected names or patterns of weights, such as 'encoder' or '*.bias'"
    )
    assert refused(Parts(), "run.ckpt", rename={"head": "layer"}, error=ValueError) == (
        "rename: both 'layer.weight' and 'head.weight' would become 'layer.weight'"
    )


def test_names_that_differ_are_shown_with_the_nearest_and_the_way_out(trained):
    class Renamed(Parts):
        def __init__(self):
            super().__init__()
            self.heads = self.head
            del self.head

    module = Renamed()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert refused(module, "run.ckpt") == (
        "the weights in 'run.ckpt' do not fit Renamed:\n"
        "  missing in the file: heads.weight  (nearest: head.weight)\n"
        "  missing in the file: heads.bias  (nearest: head.bias)\n"
        "  not in the module: head.weight  (nearest: heads.weight)\n"
        "  not in the module: head.bias  (nearest: heads.bias)\n"
        "strict=False passes over names that only one side has; rename={...} gives the file's weights other names"
    )
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not load_weights(module, "run.ckpt", rename={"head": "heads"})


def test_without_strict_the_difference_is_said_and_returned(trained, capsys):
    class More(Parts):
        def __init__(self):
            super().__init__()
            self.extra = nn.Linear(1, 1, bias=False)

    found = load_weights(More(), "run.ckpt", strict=False)
    assert (found.missing, found.unexpected) == (["extra.weight"], [])
    assert capsys.readouterr().err == (
        "leyden: 'run.ckpt' and More differ, which strict=False lets pass:\n  missing in the file: extra.weight [LY013]\n"
    )


def test_shapes_that_differ_are_shown_and_nothing_is_loaded(trained):
    wide = Parts(width=5)
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    for strict in (True, False):
        message = refused(wide, "run.ckpt", strict=strict, exclude=["encoder"])
        assert message == (
            "the weights in 'run.ckpt' do not fit Parts:\n"
            "  another shape: head.weight is [2, 4] in the file, [2, 5] in the module\n"
            "exclude=['head.weight'] leaves out what has another shape"
        )
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())
    assert load_weights(wide, "run.ckpt", exclude=["encoder", "head.weight"]).loaded == [
        "layer.weight",
        "layer.bias",
        "head.bias",
    ]


def test_a_missing_weight_that_was_asked_for_is_an_error_with_a_choice_too(trained):
    class Deeper(Parts):
        def __init__(self):
            super().__init__()
            self.encoder.append(nn.Linear(1, 1, bias=False))

    assert "missing in the file: encoder.2.weight" in refused(Deeper(), "run.ckpt", include="encoder")
    assert not load_weights(Deeper(), "run.ckpt", include="head").missing


def test_load_from_checkpoint_chooses_too(trained):
    loaded = Parts.load_from_checkpoint("run.ckpt", include=["encoder"])
    assert equals(loaded, trained, ("encoder", "encoder"))
    with pytest.raises(RuntimeError, match=r"exclude=\['encoder.0.weight', .*'\] leaves out"):
        Parts.load_from_checkpoint("run.ckpt", width=6)


def test_a_constructors_own_argument_goes_first(trained):
    class Own(Parts):
        def __init__(self, include="a", width=4, lr=0.1):
            super().__init__(width, lr)
            self.include = include

    assert Own.load_from_checkpoint("run.ckpt", include="b").include == "b"


@pytest.mark.parametrize("content", ["state_dict", "weights_only"])
def test_a_file_of_weights_alone_will_do(trained, content):
    if content == "state_dict":
        torch.save({"state_dict": trained.state_dict()}, "w.pt")
    else:
        Trainer(max_epochs=0).fit(trained)
        trained.trainer.save_checkpoint("w.pt", weights_only=True)
    other = Parts()
    assert not load_weights(other, "w.pt")
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), trained.state_dict().values(), strict=True))


def test_lazy_parts_take_any_shape(trained):
    other = nn.ModuleDict({"head": nn.LazyLinear(2)})
    load_weights(other, "run.ckpt", include="head")
    assert torch.equal(other["head"].weight, trained.head.weight)


@pytest.mark.parametrize("stage", ["fit", "test"])
@pytest.mark.usefixtures("trained")
def test_a_run_whose_module_is_another_says_how(stage):
    class Renamed(Parts):
        def __init__(self):
            super().__init__(width=4)
            self.heads = self.head
            del self.head

    def go(module):
        return getattr(Trainer(max_epochs=2), stage)(module, ckpt_path="run.ckpt")

    with pytest.raises(RuntimeError) as caught:
        go(Renamed())
    assert str(caught.value) == (
        "the weights in 'run.ckpt' do not fit Renamed:\n"
        "  missing in the file: heads.weight  (nearest: head.weight)\n"
        "  missing in the file: heads.bias  (nearest: head.bias)\n"
        "  not in the module: head.weight  (nearest: heads.weight)\n"
        "  not in the module: head.bias  (nearest: heads.bias)\n"
        "strict_loading = False on the module passes over names that only one side has; "
        "leyden.load_weights() loads a part of them, for a run without ckpt_path"
    )
    with pytest.raises(RuntimeError) as caught:
        go(Parts(width=5))
    assert "  another shape: head.weight is [2, 4] in the file, [2, 5] in the module\n" in str(caught.value)


# ---- the state of optimizers ----


def test_the_state_of_the_parameters_that_were_loaded_comes_too(trained):
    saved = torch.load("run.ckpt", weights_only=True)
    assert saved["leyden"]["optimizer_parameters"] == [
        ["encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias", "head.weight", "head.bias"]
    ]
    other = nn.ModuleDict({"new": nn.Linear(2, 2), "backbone": Parts().encoder})
    optimizer = torch.optim.Adam([{"params": other["new"].parameters()}, {"params": other["backbone"].parameters(), "lr": 0.7}])
    load_weights(other, "run.ckpt", include="encoder", rename={"encoder": "backbone"}, optimizers=optimizer)
    [old] = trained.trainer.optimizers
    for mine, theirs in zip(other["backbone"].parameters(), trained.encoder.parameters(), strict=True):
        assert torch.equal(optimizer.state[mine]["exp_avg"], old.state[theirs]["exp_avg"])
        assert optimizer.state[mine]["step"] == old.state[theirs]["step"] == 4
    assert not optimizer.state[other["new"].weight]
    again = Parts()
    adam = again.configure_optimizers()
    load_weights(again, "run.ckpt", include="head", optimizers=adam)
    assert [bool(adam.state[parameter]) for parameter in adam.param_groups[0]["params"]] == [False] * 4 + [True] * 2
    assert [group["lr"] for group in optimizer.param_groups] == [0.001, 0.7]


def test_state_that_a_file_does_not_have_is_an_error(trained):
    other = Parts()
    optimizer = other.configure_optimizers()
    torch.save({"state_dict": trained.state_dict()}, "w.pt")
    assert "'w.pt' has no state of optimizers" in refused(other, "w.pt", optimizers=optimizer, error=ValueError)
    assert "has the state of 1 optimizer(s), but 2 were given" in refused(
        other, "run.ckpt", optimizers=[optimizer, optimizer], error=ValueError
    )
    assert "one has parameters that are not of this Parts" in refused(
        other, "run.ckpt", optimizers=torch.optim.SGD([nn.Parameter(torch.ones(1))]), error=ValueError
    )


# ---- from elsewhere ----


def test_weights_come_from_memory(trained):
    trained.trainer.save_checkpoint("memory://here/run.ckpt")
    assert not load_weights(Parts(), "memory://here/run.ckpt")
    assert "memory://here/run.ckpt" in refused(nn.Linear(1, 1), "memory://here/run.ckpt")


def test_weights_come_from_the_web(trained, server):
    other = Parts()
    load_weights(other, f"{server}/run.ckpt")
    assert torch.equal(other.head.weight, trained.head.weight)
    assert Parts.load_from_checkpoint(f"{server}/run.ckpt", width=4).lr == 0.1
    assert json.dumps(load_weights(other, f"{server}/run.ckpt", include="head").loaded) == '["head.weight", "head.bias"]'
