"""``leyden plugins``."""

from __future__ import annotations

import json

import pytest
from leyden_cli import main


@pytest.fixture
def owners(capsys):
    """What ``leyden plugins --json`` says of a distribution's names, as ``{(group, name): report}``."""

    def owners(distribution):
        main(["plugins", "--json"])
        found = json.loads(capsys.readouterr().out)
        (owner,) = [owner for owner in found["distributions"] if owner["distribution"] == distribution]
        return {(plugin["group"], plugin["name"]): plugin for plugin in owner["plugins"]}

    return owners


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A distribution with an object of each kind that the list tells apart."""
    source = """
from leyden import Callback, Logger, hookimpl
class Quiet(Callback): ...
class Loud(Callback):
    def on_train_end(self, trainer, module): ...
    def on_fit_start(self, trainer): ...
    def helper(self): ...
class Marked(Logger):
    def setup(self): "no hook: it is not marked"
    @hookimpl
    def on_train_start(self): ...
class Renamed:
    @hookimpl(specname="on_fit_end")
    def at_the_end(self): ...
class Idle:
    def helper(self): ...
def maker():
    return Loud()
"""
    info = tmp_path / "strange-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(
        "[leyden]\nrenamed = strange_a:Renamed\nidle = strange_a:Idle\n"
        "[leyden.loggers]\nmarked = strange_a:Marked\n"
        "[leyden.callbacks]\nquiet = strange_a:Quiet\nloud = strange_a:Loud\nmaker = strange_a:maker\ngone = strange_a:Gone\n"
    )
    (tmp_path / "strange_a.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_hooks_are_what_a_class_overrides_or_marks(stranger, owners):
    found = owners("strange")
    assert {name: plugin["hooks"] for (_, name), plugin in found.items() if not plugin["error"]} == {
        "renamed": ["on_fit_end"],
        "marked": ["on_train_start"],
        "quiet": [],
        "loud": ["on_fit_start", "on_train_end"],
        "maker": [],
    }


def test_an_entry_point_to_nothing_is_an_error_of_that_name_alone(stranger, owners):
    found = owners("strange")
    gone = found["leyden.callbacks", "gone"]
    assert gone["error"] == "AttributeError: module 'strange_a' has no attribute 'Gone'"
    assert gone["import_ms"] is None
    assert [name for (_, name), plugin in found.items() if plugin["error"]] == ["idle", "gone"]


def test_a_plugin_of_every_run_that_answers_no_hook_is_an_error(stranger, owners):
    found = owners("strange")
    assert found["leyden", "idle"]["error"] == (
        "it answers no hook; a plug-in of the group 'leyden' that does nothing else has no use"
    )


def test_what_is_switched_off_is_said_and_not_imported(stranger, owners, monkeypatch):
    monkeypatch.setenv("LEYDEN_DISABLE_PLUGINS", "strange")
    assert {(plugin["disabled"], plugin["import_ms"]) for plugin in owners("strange").values()} == {(True, None)}


def test_import_times_are_milliseconds(owners):
    found = owners("leyden-cli")
    assert all(plugin["import_ms"] >= 0 for plugin in found.values())


def test_the_text_names_every_distribution_group_and_name(stranger, capsys):
    assert main(["plugins"]) == 1
    blocks = capsys.readouterr().out.split("\n\n")
    (block,) = [block for block in blocks if block.startswith("strange 2.0\n")]
    lines = [" ".join(line.split()) for line in block.splitlines()]
    assert lines[0] == "strange 2.0"
    assert lines[1].startswith("in every run idle BROKEN strange_a:Idle: it answers no hook")
    assert lines[2].startswith("renamed")
    assert lines[3] == "hooks: on_fit_end"
    assert "callbacks gone BROKEN strange_a:Gone: AttributeError: module 'strange_a' has no attribute 'Gone'" in lines


def test_everything_of_ours_is_well(capsys):
    assert main(["plugins"]) == 0
    assert "BROKEN" not in capsys.readouterr().out
