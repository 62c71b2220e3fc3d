"""Every message has an id, and every id is documented."""

from __future__ import annotations

import ast
import importlib.util
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_tool():
    spec = importlib.util.spec_from_file_location("make_messages", ROOT / "tools/make_messages.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


TOOL = load_tool()


def calls(package):
    """The calls in a package's files, each with its file, its function's name and its first argument."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func), node.args[0] if node.args else None


def ids_used(package):
    return {
        first.value
        for _, name, first in calls(package)
        if name in ("warn", "notify") and isinstance(first, ast.Constant) and isinstance(first.value, str)
    }


def test_the_page_of_messages_is_what_the_tables_say():
    assert TOOL.PAGE.read_text(encoding="utf-8") == TOOL.page(), "run: make messages"


def test_no_id_is_given_twice():
    counts = Counter(message_id for message_id, _, _ in TOOL.tables())
    assert [message_id for message_id, count in counts.items() if count > 1] == []
    assert counts


@pytest.mark.parametrize("package", TOOL.sources(), ids=lambda package: package.name)
def test_the_ids_of_a_table_are_those_that_its_package_says(package):
    assert ids_used(package) == {message_id for message_id, _, owner in TOOL.tables() if owner == package.name}


@pytest.mark.parametrize("package", TOOL.sources(), ids=lambda package: package.name)
def test_every_warning_has_an_id(package):
    bare = [
        str(path.relative_to(ROOT))
        for path, name, first in calls(package)
        if (name == "warnings.warn" and path.name not in ("messages.py", "rank_zero.py"))  # by the latter, users warn themselves
        or (name in ("warn", "notify") and not isinstance(first, ast.Constant))
    ]
    assert bare == [], "use leyden.messages.warn or notify, with an id of the package's message_ids.py"


def test_core_says_nothing_unasked_without_an_id():
    [core] = [package for package in TOOL.sources() if package.name == "leyden"]
    assert [str(path) for path, name, _ in calls(core) if name == "announce" and path.name != "messages.py"] == []
