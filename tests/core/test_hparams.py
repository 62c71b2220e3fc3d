"""save_hyperparameters and hparams."""

from __future__ import annotations

import pickle
from argparse import Namespace

import pytest
from leyden import DataModule, Logger, Module, Trainer
from leyden.hparams import AttributeDict
from leyden.testing import TinyModule
from torch import nn

pytestmark = pytest.mark.usefixtures("core_alone")


class Saves(Module):
    def __init__(self, size, rate=0.1, *names, flag=True, **rest):
        super().__init__()
        self.save_hyperparameters()


def test_every_argument_is_kept():
    module = Saves(3, flag=False, extra="x")
    assert dict(module.hparams) == {"size": 3, "rate": 0.1, "flag": False, "extra": "x"}


def test_hparams_are_attributes_and_items():
    module = Saves(3)
    assert module.hparams.size == module.hparams["size"] == 3
    module.hparams.size = 4
    assert module.hparams["size"] == 4
    del module.hparams.size
    assert "size" not in module.hparams


def test_arguments_of_subclasses_are_kept_too():
    class Sub(Saves):
        def __init__(self, depth, size=7):
            super().__init__(size, rate=0.5)

    assert dict(Sub(2).hparams) == {"size": 7, "rate": 0.5, "flag": True, "depth": 2}


def test_arguments_changed_before_saving_are_kept_as_changed():
    class Changes(Module):
        def __init__(self, size=None):
            super().__init__()
            size = size or 9
            self.save_hyperparameters()

    assert Changes().hparams.size == 9


def test_names_choose_what_is_kept():
    class Chooses(Module):
        def __init__(self, a, b, c):
            super().__init__()
            self.save_hyperparameters("a", "c")

    assert dict(Chooses(1, 2, 3).hparams) == {"a": 1, "c": 3}


@pytest.mark.parametrize("ignore", ["b", ["b", "c"], ("b",)])
def test_names_can_be_ignored(ignore):
    class Ignores(Module):
        def __init__(self, a, b, c):
            super().__init__()
            self.save_hyperparameters(ignore=ignore)

    assert "b" not in Ignores(1, 2, 3).hparams
    assert Ignores(1, 2, 3).hparams.a == 1


def test_a_name_that_a_base_class_kept_can_be_ignored():
    class Sub(Saves):
        def __init__(self, loss):
            super().__init__(3)
            self.save_hyperparameters(ignore="loss")

    assert "loss" not in Sub("mse").hparams
    assert "loss" not in Sub("mse").hparams_initial


@pytest.mark.parametrize("kind", [dict, Namespace])
def test_one_object_is_kept_by_its_items(kind):
    class Takes(Module):
        def __init__(self, config):
            super().__init__()
            self.save_hyperparameters(config)

    assert dict(Takes(kind(a=1, b=2)).hparams) == {"a": 1, "b": 2}


def test_several_calls_add_up():
    class Twice(Module):
        def __init__(self, a, b):
            super().__init__()
            self.save_hyperparameters("a")
            self.save_hyperparameters({"c": 3})

    assert dict(Twice(1, 2).hparams) == {"a": 1, "c": 3}


def test_a_data_module_has_hyperparameters_too():
    class Data(DataModule):
        def __init__(self, root):
            self.save_hyperparameters()

    assert Data("here").hparams.root == "here"


def test_without_saving_there_are_none():
    assert dict(nnless().hparams) == {}


def nnless():
    class Plain(Module):
        pass

    return Plain()


def test_initial_values_stay_as_they_were():
    class Takes(Module):
        def __init__(self, sizes):
            super().__init__()
            self.save_hyperparameters()

    module = Takes([1])
    module.hparams.sizes.append(2)
    module.hparams.more = 3
    assert dict(module.hparams_initial) == {"sizes": [1]}


def test_a_value_that_cannot_be_copied_is_kept():
    given = (number for number in range(3))

    class Takes(Module):
        def __init__(self, numbers):
            super().__init__()
            self.save_hyperparameters()

    assert Takes(given).hparams_initial.numbers is given


def test_a_child_module_as_argument_is_a_hyperparameter_and_a_child():
    class Takes(Module):
        def __init__(self, backbone):
            super().__init__()
            self.save_hyperparameters()
            self.backbone = backbone

    backbone = nn.Linear(1, 1)
    module = Takes(backbone)
    assert module.hparams.backbone is backbone
    assert set(module.state_dict()) == {"backbone.weight", "backbone.bias"}


class Named(Module):
    def __init__(self, hidden_size=1, **options):
        super().__init__()
        self.save_hyperparameters(options["name"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hiden_size", "; did you mean 'hidden_size'? Its arguments: 'hidden_size', 'name'"),
        ("zzz", "; its arguments: 'hidden_size', 'name'"),
    ],
)
def test_a_name_that_is_no_argument_is_an_error(name, message):
    with pytest.raises(ValueError) as caught:
        Named(name=name)
    assert str(caught.value) == f"save_hyperparameters({name!r}): Named.__init__ has no argument {name!r}{message}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((3,), "save_hyperparameters() cannot keep a int; pass a dict or a Namespace"),
        (({}, {}), "save_hyperparameters() takes names of arguments, or one object such as a dict or a Namespace"),
    ],
)
def test_what_cannot_be_kept_is_an_error(given, message):
    class Takes(Module):
        def __init__(self, *values):
            super().__init__()
            self.save_hyperparameters(*values)

    with pytest.raises(ValueError) as caught:
        Takes(*given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rat", "no hyperparameter 'rat'; did you mean 'rate'? There are: 'size', 'rate', 'flag'"),
        ("zzz", "no hyperparameter 'zzz'; there are: 'size', 'rate', 'flag'"),
    ],
)
def test_a_missing_hyperparameter_names_those_there_are(name, message):
    with pytest.raises(AttributeError) as caught:
        getattr(Saves(3).hparams, name)
    assert str(caught.value) == message


def test_an_attribute_dict_can_be_pickled_and_shown():
    given = AttributeDict(a=1, b="x")
    assert pickle.loads(pickle.dumps(given)) == given
    assert repr(given) == "'a': 1\n'b': 'x'"


class Told(Logger):
    def __init__(self):
        self.params = []

    def log_hyperparams(self, params, metrics=None):
        self.params.append(dict(params))


def test_loggers_are_told_the_hyperparameters_of_module_and_data_module():
    class Data(DataModule):
        def __init__(self, root):
            self.save_hyperparameters()

    logger = Told()
    Trainer(max_epochs=1, logger=logger).fit(TinyModule(lr=0.3), datamodule=Data("here"))
    assert logger.params == [{"root": "here", "lr": 0.3}]


def test_enable_autolog_hparams_false_tells_nothing():
    logger = Told()
    Trainer(max_epochs=1, logger=logger, enable_autolog_hparams=False).fit(TinyModule())
    assert logger.params == []


def test_logger_false_tells_nothing():
    class Quiet(TinyModule):
        def __init__(self, secret=1):
            super().__init__()
            self.save_hyperparameters(logger=False)

    logger = Told()
    Trainer(max_epochs=1, logger=logger).fit(Quiet())
    assert logger.params == [{}]
