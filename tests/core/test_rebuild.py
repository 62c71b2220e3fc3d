"""Hyperparameters that are not plain data: stored as data, rebuilt only with what the program allows."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import re
import subprocess
import sys
import types
import uuid
import zoneinfo
from argparse import Namespace
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import leyden
import numpy as np
import pytest
import torch
from leyden import AttributeDict, DataModule, Module, Trainer
from leyden.messages import LeydenWarning
from leyden.testing import TinyModule
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("core_alone")


def stable_id(item):
    """An id of a test case that is the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(item))[:40]


class Color(enum.Enum):
    RED = "red"
    BOTH = (1, 2)


class Level(enum.IntFlag):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Config:
    size: int
    where: Path = Path("here")
    nested: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int
    doubled: int = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "doubled", 2 * self.a)


Point = namedtuple("Point", "x y")


class Celsius(float):
    pass


class OmegaLike(UserDict):
    """A mapping of a class of its own, as configurations of other libraries are."""


def focal(prediction, target, gamma=2):
    return gamma


class Takes(TinyModule):
    """Keeps whatever it is given as one hyperparameter."""

    def __init__(self, value=None, lr=0.1):
        super().__init__(lr)
        self.save_hyperparameters()
        self.value = value


def saved(value: Any, path: str = "run.ckpt", cls: Any = Takes) -> Any:
    trainer = Trainer(max_epochs=0)
    trainer.fit(cls(value))
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)


UTC = datetime.timezone.utc
BUILT_IN = [
    (Path("a/b"), "a/b"),
    (PurePosixPath("/x"), "/x"),
    (PureWindowsPath("c:/x"), "c:\\x"),
    (Namespace(a=1, b=Namespace(c=Path("p"))), {"a": 1, "b": {"c": "p"}}),
    (types.SimpleNamespace(a=1), {"a": 1}),
    (np.float32(0.1), float(np.float32(0.1))),
    (np.float64(1.5), 1.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.str_("text"), "text"),
    (np.datetime64("2020-02-03T04:05:06", "ms"), "2020-02-03T04:05:06.000"),
    (np.timedelta64(5, "m"), 5),
    (datetime.datetime(2020, 2, 3, 4, 5, 6, 7), "2020-02-03T04:05:06.000007"),
    (datetime.datetime(2020, 2, 3, tzinfo=UTC), "2020-02-03T00:00:00+00:00"),
    (datetime.date(2020, 2, 3), "2020-02-03"),
    (datetime.time(4, 5), "04:05:00"),
    (datetime.timedelta(hours=1), 3600.0),
    (datetime.timedelta(days=999_999_999, microseconds=1), [999_999_999, 0, 1]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"a"}), ["a"]),
    (range(1, 9, 2), [1, 9, 2]),
    (slice(1, None), [1, None, None]),
    (deque([1, 2], maxlen=3), [1, 2]),
    (OrderedDict(a=1), {"a": 1}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (defaultdict(list, a=[1]), {"a": [1]}),
    (AttributeDict(a=1), {"a": 1}),
    (bytearray(b"ab"), b"ab"),
    (decimal.Decimal("0.10"), "0.10"),
    (fractions.Fraction(1, 3), [1, 3]),
    (uuid.UUID(int=5), str(uuid.UUID(int=5))),
    (re.compile("a.*b", re.I), ["a.*b", re.compile("a.*b", re.I).flags]),
    (torch.channels_last, "torch.channels_last"),
    (Color.RED, "red"),
    (Color.BOTH, "BOTH"),
    (Level.LOW | Level.HIGH, 3),
    (nn.ReLU, "torch.nn.modules.activation:ReLU"),
    (torch.optim.AdamW, "torch.optim.adamw:AdamW"),
    (F.cross_entropy, "torch.nn.functional:cross_entropy"),
    (F.gelu, "torch.nn.functional:gelu"),
    (torch.tanh, "torch:tanh"),
    (int, "builtins:int"),
    (functools.partial(F.cross_entropy, label_smoothing=0.1), None),
    ((1, (2, Path("x"))), [1, [2, "x"]]),
    ({"a": [Path("x"), {"b": Color.RED}]}, {"a": ["x", {"b": "red"}]}),
    ({Color.RED: 1, Path("k"): Path("v")}, [["red", 1], ["k", "v"]]),
]
PLAIN = [1, 2.5, "text", True, None, b"bytes", 1 + 2j, [1, [2]], (1, (2, 3)), {"a": {1: "b"}}, torch.float16, torch.device("cpu")]
NEED_PERMISSION = [
    (Config(3, Path("there"), {"c": Color.RED}), {"size": 3, "where": "there", "nested": {"c": "red"}}, [Config]),
    (Frozen(2), {"a": 2, "doubled": 4}, [Frozen]),
    (Point(1, Path("y")), [1, "y"], [Point]),
    (focal, "test_rebuild:focal", [focal]),
    (Config, "test_rebuild:Config", [Config]),
    (functools.partial(focal, gamma=3), None, [focal]),
    (OmegaLike(a=1, b=OmegaLike(c=Path("p"))), {"a": 1, "b": {"c": "p"}}, [OmegaLike]),
    (UserList([1, 2]), [1, 2], [UserList]),
    (Celsius(36.6), 36.6, [Celsius]),
]


def equal(one, other):
    if isinstance(one, functools.partial):
        return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
    return type(one) is type(other) and (bool(one == other))


def named(data):
    return data.replace(f"{__name__}:", "test_rebuild:") if isinstance(data, str) else data


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_is_kept_as_it_is(value):
    checkpoint = saved(value)
    assert checkpoint["hyper_parameters"]["value"] == value
    assert "rebuild" not in checkpoint["leyden"]
    assert equal(Takes.load_from_checkpoint("run.ckpt").value, value)


@pytest.mark.parametrize(("value", "data"), BUILT_IN, ids=stable_id)
def test_a_hyperparameter_is_data_in_the_file_and_comes_back_as_it_was(value, data):
    kept = saved(value)["hyper_parameters"]["value"]
    assert data is None or (kept == data and type(kept) is type(data))
    assert equal(Takes.load_from_checkpoint("run.ckpt").value, value)


@pytest.mark.parametrize(("value", "data", "allow"), NEED_PERMISSION, ids=stable_id)
def test_what_a_class_or_function_of_the_user_makes_needs_permission(value, data, allow):
    kept = saved(value)["hyper_parameters"]["value"]
    assert data is None or named(kept) == data
    with pytest.raises(TypeError, match=r"what a file names is used only if you allow it"):
        Takes.load_from_checkpoint("run.ckpt")
    assert equal(Takes.load_from_checkpoint("run.ckpt", allow=allow).value, value)
    assert Takes.load_from_checkpoint("run.ckpt", value=5).value == 5


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3)[:, ::-1],
        np.array(2.5),
        np.array([1, 2], dtype=">f4"),
        np.array(["a", "bc"]),
        np.array([1 + 2j]),
        np.array(["2020-01-02"], dtype="datetime64[D]"),
        np.array([True]),
        np.array([], dtype=np.uint8),
    ],
    ids=lambda array: array.dtype.str,
)
def test_an_array_comes_back_with_dtype_and_shape(array):
    saved(array)
    found = Takes.load_from_checkpoint("run.ckpt").value
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)


def test_a_time_zone_comes_back():
    zone = zoneinfo.ZoneInfo("UTC")
    moment = datetime.datetime(2020, 7, 1, 12, tzinfo=zone)
    saved(moment)
    found: Any = Takes.load_from_checkpoint("run.ckpt").value
    assert (found, found.tzinfo) == (moment, zone)


def test_a_file_with_any_hyperparameters_loads_where_leyden_is_not_installed():
    saved({str(index): item[0] for index, item in enumerate([*BUILT_IN, *NEED_PERMISSION])})
    code = (
        "import sys; sys.modules['leyden'] = None; import torch; "
        "c = torch.load('run.ckpt', weights_only=True); "
        "print(len(c['hyper_parameters']['value']), c['state_dict']['layer.bias'].shape)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == f"{len(BUILT_IN) + len(NEED_PERMISSION)} torch.Size([2])\n"


def test_the_message_of_a_refusal_says_what_to_write():
    saved({"loss": focal})
    with pytest.raises(TypeError) as caught:
        Takes.load_from_checkpoint("run.ckpt")
    assert str(caught.value) == (
        f"'run.ckpt': to rebuild the hyperparameters of Takes, value['loss'] is of kind 'object' with '{__name__}:focal'; what a "
        f"file names is used only if you allow it: Takes.load_from_checkpoint(path, allow=[focal]), or "
        f"leyden.allow_rebuild(focal), or pass the argument itself, value=..."
    )


def test_one_refusal_names_everything_that_is_needed():
    saved([Point(1, Frozen(2)), functools.partial(focal)])
    with pytest.raises(TypeError, match=re.escape("allow=[Frozen, Point, focal])")):
        Takes.load_from_checkpoint("run.ckpt")


def test_an_allowed_class_is_allowed_for_every_file(monkeypatch):
    monkeypatch.setattr("leyden.checkpoint.allowed._registered", {})

    @leyden.allow_rebuild
    @dataclasses.dataclass
    class Local:
        a: int

    saved(Local(3))
    assert Takes.load_from_checkpoint("run.ckpt").value == Local(3)


def test_a_class_that_has_moved_is_given_by_its_old_path():
    saved(Config(4))
    Moved = dataclasses.make_dataclass("Moved", ["size", "where", "nested"])
    found = Takes.load_from_checkpoint("run.ckpt", allow={f"{__name__}:Config": Moved}).value
    assert found == Moved(4, Path("here"), {})


def test_what_the_constructor_names_itself_is_allowed():
    class Says(TinyModule):
        def __init__(self, config: Config | None, loss=focal, lr=0.1):
            super().__init__(lr)
            self.save_hyperparameters()

    saved(Config(5), cls=Says)
    loaded = Says.load_from_checkpoint("run.ckpt")
    assert (loaded.hparams.config, loaded.hparams.loss) == (Config(5), focal)


def test_nothing_that_a_file_names_is_imported():
    checkpoint = saved(focal)
    for path, kind in (("antigravity:fly", "object"), ("this:Zen", "enum"), ("os:system", "object"), ("builtins:eval", "object")):
        [recipe] = checkpoint["leyden"]["rebuild"]["hyper_parameters"]
        recipe.update(kind=kind, member="A", **{"class": path})
        torch.save(checkpoint, "odd.ckpt")
        with pytest.raises(TypeError, match=re.escape(path)):
            Takes.load_from_checkpoint("odd.ckpt")
    assert not {"antigravity", "this"} & sys.modules.keys()


def test_torchs_own_namespaces_allow_no_more_than_their_parts():
    checkpoint = saved(F.relu)
    for path in ("torch:load", "torch.nn.functional:_verify_batch_size", "torch.nn.functional:importlib",
                 "torch.optim:Optimizer.step", "torch.nn.modules.module:torch", "torch.hub:load"):  # fmt: skip
        [recipe] = checkpoint["leyden"]["rebuild"]["hyper_parameters"]
        recipe["class"] = path
        torch.save(checkpoint, "odd.ckpt")
        with pytest.raises(TypeError, match=re.escape(path)):
            Takes.load_from_checkpoint("odd.ckpt")


def test_a_recipe_that_does_not_fit_its_data_is_a_plain_error():
    checkpoint = saved(datetime.date(2020, 1, 2))
    recipes = checkpoint["leyden"]["rebuild"]["hyper_parameters"]
    for recipe, message in (
        ({"at": ["value"], "kind": "time"}, "value cannot be rebuilt as 'time'"),
        ({"at": ["nowhere", 0], "kind": "date"}, "nowhere[0] cannot be rebuilt as 'date'"),
        ({"at": ["value"], "kind": "spell"}, "value is of kind 'spell', which this version of leyden does not know"),
        (
            {"at": ["value"], "kind": "array", "dtype": "<U2000000"},
            "value cannot be rebuilt as 'array': ValueError: an item of 8000000",
        ),
    ):
        recipes[:] = [recipe]
        torch.save(checkpoint, "odd.ckpt")
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            Takes.load_from_checkpoint("odd.ckpt")
        assert str(caught.value).startswith("'odd.ckpt': hyperparameter ")


# ---- what cannot be kept ----


class Saves(leyden.Callback):
    role = "checkpointing"


def closure():
    return lambda x: x


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda x: x, "builtins.function"),
        (closure(), "builtins.function"),
        (object(), "builtins.object"),
        ([1, {"deep": iter([])}], "builtins.list_iterator"),
        (np.array([object()]), "numpy.ndarray"),
        ("text".upper, "builtins.builtin_function_or_method"),
        (sys, "builtins.module"),
    ],
    ids=stable_id,
)
def test_what_cannot_be_kept_is_refused_before_the_first_step(value, kind):
    class Never(Takes):
        def validation_step(self, batch, batch_idx):
            pytest.fail("a step was made")

        training_step = validation_step

    with pytest.raises(TypeError) as caught:
        Trainer(max_epochs=1, callbacks=[Saves()]).fit(Never(value))
    assert str(caught.value).startswith("Never: hyperparameter 'value' cannot be kept in a checkpoint: value")
    assert kind in str(caught.value)
    assert str(caught.value).endswith(
        "; leave it out with save_hyperparameters(ignore=['value']) and pass it to load_from_checkpoint() again"
    )


def test_that_holds_for_data_modules_too():
    class Data(DataModule):
        def __init__(self, transform):
            self.save_hyperparameters()

    with pytest.raises(TypeError, match="Data: hyperparameter 'transform' cannot be kept"):
        Trainer(max_epochs=1, callbacks=[Saves()]).fit(TinyModule(), datamodule=Data(lambda x: x))


def test_a_value_that_contains_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(TypeError, match=re.escape("value[0] contains itself")):
        Trainer(max_epochs=1, callbacks=[Saves()]).fit(Takes(loop))


def test_a_run_without_checkpoints_refuses_nothing():
    Trainer(max_epochs=1).fit(Takes(lambda x: x))


def test_submodules_as_arguments_train_and_are_left_out_with_one_warning():
    module = Takes([nn.Linear(1, 1)])
    trainer = Trainer(max_epochs=1, callbacks=[Saves()])
    with pytest.warns(LeydenWarning) as caught:
        trainer.fit(module)
    trainer.save_checkpoint("run.ckpt")  # says no more; a second warning would be an error here
    assert [str(warning.message) for warning in caught] == [
        "Takes: hyperparameters 'value' are not plain data and are not in the checkpoint; pass them to load_from_checkpoint(), "
        "and silence this with save_hyperparameters(ignore=['value'])"
    ]
    assert torch.load("run.ckpt", weights_only=True)["hyper_parameters"] == {"lr": 0.1}


def test_a_hyperparameter_that_became_odd_during_the_run_does_not_stop_a_save():
    trainer = Trainer(max_epochs=1, callbacks=[Saves()])
    module = Takes(1)
    trainer.fit(module)
    module.hparams.value = object()
    with pytest.warns(LeydenWarning, match="'value' are not plain data"):
        trainer.save_checkpoint("run.ckpt")


# ---- one object ----


@pytest.mark.parametrize(
    "config", [Namespace(size=3, where=Path("p")), {"size": 3}, AttributeDict(size=3), OmegaLike(size=3)], ids=repr
)
def test_hyperparameters_given_as_one_object_come_back_as_one(config):
    class Whole(Module):
        def __init__(self, config, lr=0.1):
            super().__init__()
            self.save_hyperparameters(config)
            self.config, self.lr = config, lr
            self.layer = nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch).sum()

        def train_dataloader(self):
            return [torch.ones(1, 1)]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    saved(config, cls=Whole)
    loaded = Whole.load_from_checkpoint("run.ckpt", allow=[OmegaLike], lr=0.5)
    assert equal(loaded.config, config)
    assert loaded.lr == 0.5


def test_hparams_can_be_assigned():
    class Older(TinyModule):
        def __init__(self, hparams):
            super().__init__()
            self.hparams = hparams

    saved(Namespace(lr=0.3, size=2), cls=Older)
    loaded = Older.load_from_checkpoint("run.ckpt", size=4)
    assert dict(loaded.hparams) == {"lr": 0.3, "size": 4}
    with pytest.raises(TypeError, match="hparams = int 3: expected a dict or a Namespace"):
        setattr(loaded, "hparams", 3)  # noqa: B010  # type checkers see it
