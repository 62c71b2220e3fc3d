"""Messages: by id, once a run, on rank 0, and silenced by whoever has read them."""

from __future__ import annotations

import warnings

import pytest
import torch
from leyden import LeydenWarning, PluginWarning, Trainer, silence
from leyden.messages import _voice, new_run, notify, warn
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
