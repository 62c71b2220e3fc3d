"""Which package may import which, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = "leyden"
PACKAGES = {path.name: path for path in sorted([*ROOT.glob("*/src/*"), *ROOT.glob("plugins/*/src/*")]) if path.is_dir()}
PLUGINS = sorted(PACKAGES.keys() - {CORE})


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names that a module imports, wherever in it: ``from a.b import c`` gives ``a.b.c``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def bound(tree: ast.AST, package: str) -> set[str]:
    """The names that stand for ``package`` or something of it in a module."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names if alias.name.split(".")[0] == package}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_uses(tree: ast.AST, package: str) -> Iterator[str]:
    for name in imported(tree):
        if name.split(".")[0] == package and any(is_private(part) for part in name.split(".")):
            yield name
    names = bound(tree, package)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and isinstance(node.value, ast.Name)
            and node.value.id in names
        ):
            yield f"{node.value.id}.{node.attr}"


def sources(package: str) -> list[tuple[str, ast.Module]]:
    folder = PACKAGES[package]
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(folder.rglob("*.py"))]


def test_the_house_has_the_packages_that_the_other_tests_look_at():
    assert {
        CORE,
        "leyden_accelerators",
        "leyden_strategies",
        "leyden_loggers",
        "leyden_precision",
        "leyden_callbacks",
        "leyden_checkpoint",
        "leyden_profilers",
        "leyden_lightning",
        "leyden_cli",
    } <= set(PACKAGES)
    assert all(len(sources(package)) > 1 for package in PACKAGES)


def test_core_imports_no_plugin():
    wrong = [(path, name) for path, tree in sources(CORE) for name in imported(tree) if name.split(".")[0] in PLUGINS]
    assert wrong == []


def test_core_names_no_plugin_package_in_a_string_either():
    wrong = [
        (path, node.value)
        for path, tree in sources(CORE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.split(".")[0] in PLUGINS
    ]
    assert wrong == []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_no_other_plugin(plugin):
    others = set(PLUGINS) - {plugin}
    wrong = [(path, name) for path, tree in sources(plugin) for name in imported(tree) if name.split(".")[0] in others]
    assert wrong == []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_uses_only_public_names_of_core(plugin):
    wrong = [(path, name) for path, tree in sources(plugin) for name in private_uses(tree, CORE)]
    assert wrong == []


def test_the_reader_of_imports_finds_every_way_of_using_something_private():
    tree = ast.parse(
        "import leyden\n"
        "import leyden._hidden as h\n"
        "from leyden import plugins as p, _secret\n"
        "from leyden._inner import thing\n"
        "def f():\n"
        "    from leyden.bus import _Manager\n"
        "    return p._scan, leyden._x, p.__name__, f._own\n"
    )
    assert sorted(private_uses(tree, CORE)) == [
        "leyden._hidden", "leyden._inner.thing", "leyden._secret", "leyden._x", "leyden.bus._Manager", "p._scan",
    ]  # fmt: skip
