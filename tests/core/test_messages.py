"""Messages: by id, once a run, on rank 0, and silenced by whoever has read them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from leyden import LeydenWarning, PluginWarning, Trainer, silence
from leyden.messages import _voice, new_run, notify, quoted, shown, warn
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")


@pytest.fixture(autouse=True)
def voice():
    """Leaves nothing silenced behind."""
    new_run(0)
    yield
    _voice.silenced.clear()
    new_run(0)


class Lies(list):
    def __len__(self):
        return 5


def fit_that_warns():
    batch = (torch.ones(4, 8), torch.ones(4).long())
    return Trainer(max_epochs=1, limit_val_batches=0).fit(TinyModule(), Lies([batch]))


def test_the_category_of_a_warning_is_its_id():
    with pytest.warns(LeydenWarning) as caught:
        fit_that_warns()
    [category] = {warning.category for warning in caught}
    assert (category.__name__, category.__bases__) == ("LY003", (LeydenWarning,))
    with pytest.warns(PluginWarning):
        warn("LY011", "x", PluginWarning)


def test_a_warning_names_the_line_of_the_user():
    with pytest.warns(LeydenWarning) as caught:
        fit_that_warns()
    assert {warning.filename for warning in caught} == {__file__}


def test_a_filter_of_pythons_own_silences_one_id():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn("LY003", "x")
        warnings.simplefilter("ignore", caught[0].category)
        warn("LY003", "x")
        warn("LY004", "y")
    assert [str(warning.message) for warning in caught] == ["x", "y"]


class Breaks:
    def __repr__(self):
        raise ValueError("no")


class Long:
    def __repr__(self):
        return "first\n   second" + "." * 5000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ten", "str 'ten'"), (3, "int 3"), (None, "NoneType None"), ("a\nb", r"str 'a\nb'"), ((1,), "tuple (1,)"),
        (torch.zeros(2, 3), "Tensor of shape (2, 3) and float32"), (torch.tensor(1), "Tensor of shape () and int64"),
        (torch.empty(2, device="meta"), "Tensor of shape (2,) and float32 on meta"),
        (torch.nn.Parameter(torch.ones(1)), "Parameter of shape (1,) and float32"),
        (np.ones((40, 50)), "ndarray of shape (40, 50) and float64"), (np.dtype("int8"), "Int8DType dtype('int8')"),
        ([torch.ones(9, 9)] * 2, "list [Tensor of shape (9, 9) and float32, Tensor of shape (9, 9) and float32]"),
        ({"x": torch.ones(2)}, "dict {'x': Tensor of shape (2,) and float32}"),
        (list(range(10**6)), "list [0, 1, 2, 3, 4, 5, 6, 7, ... (1000000 in all)]"),
        (set(range(9)), "set {0, 1, 2, 3, 4, 5, 6, 7, ... (9 in all)}"),
        ("x" * 500, f"str '{'x' * 76}..."), (torch.nn.Sequential(torch.nn.ReLU()), "Sequential Sequential( (0): ReLU() )"),
        (Breaks(), "Breaks <Breaks whose repr raises ValueError>"), (Long(), f"Long first second{'.' * 65}..."),
    ],
)  # fmt: skip
def test_a_value_is_shown_on_one_line_with_its_type(value, text):
    assert shown(value) == text


def test_a_table_is_shown_by_its_shape():
    pandas = pytest.importorskip("pandas")
    assert shown(pandas.DataFrame({"a": range(100), "b": range(100)})) == "DataFrame of shape (100, 2)"


def test_a_value_that_holds_itself_is_shown():
    value = {"many": dict.fromkeys(range(30))}
    value["itself"] = [value]
    text = quoted(value)
    assert "19: None, ...: 30 in all}, 'itself': [{" in text
    assert len(text) < 1001


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_epochs": torch.ones(50, 50)}, {"devices": np.ones((50, 50))}, {"strategy": torch.ones(50, 50)},
        {"callbacks": [torch.ones(50, 50)]}, {"logger": {"csv": torch.ones(50, 50)}}, {"compile": list(range(10000))},
        {"max_time": {"days": torch.ones(50, 50)}}, {"limit_train_batches": "long\n" * 1000},
    ],
)  # fmt: skip
def test_what_the_trainer_says_of_a_wrong_value_is_one_line_of_a_sane_length(arguments):
    with pytest.raises((TypeError, ValueError)) as error:
        Trainer(**arguments)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize("outside", [False, True])
def test_an_id_is_silenced(monkeypatch, capsys, outside):
    if outside:
        monkeypatch.setenv("LEYDEN_SILENCE", "LY003, LY005")
    else:
        silence("LY003", "LY005")
    fit_that_warns()  # warnings are errors in tests
    Trainer(max_epochs=1).fit(TinyModule().eval())
    Trainer(max_steps=1).fit(TinyModule())
    notify("LY006", "said")
    assert capsys.readouterr().err == "leyden: said [LY006]\n"


def test_a_notice_is_said_once_a_run(capsys):
    notify("LY006", "one")
    notify("LY006", "one")
    notify("LY006", "two")
    new_run(0)
    notify("LY006", "one")
    assert capsys.readouterr().err == "leyden: one [LY006]\nleyden: two [LY006]\nleyden: one [LY006]\n"


def test_other_ranks_say_nothing_but_what_each_says_for_itself(capsys):
    new_run(1)
    warn("LY003", "x")
    notify("LY006", "x")
    notify("LY009", "waiting", every_rank=True)
    assert capsys.readouterr().err == "leyden: rank 1: waiting [LY009]\n"


def test_an_unknown_id_is_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match=r"^silence\('LY0066'\): there is no such message; did you mean 'LY006'\? Ids: 'LY001', "
    ):
        silence("LY0066")
    silence("ACME01")  # a stranger's plug-in may have messages too
