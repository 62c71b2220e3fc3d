"""What the pyproject files of the repository have in common."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import leyden
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PARTS = sorted([*ROOT.glob("*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")])
PROJECTS = {path: tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in [ROOT / "pyproject.toml", *PARTS]}
OURS = {project["name"] for project in PROJECTS.values()}


def folder(path: Path) -> str:
    return str(path.parent.relative_to(ROOT))


def test_all_distributions_have_one_version_number():
    assert {project["name"]: project["version"] for project in PROJECTS.values()} == dict.fromkeys(OURS, leyden.__version__)


@pytest.mark.parametrize("path", PROJECTS, ids=folder)
def test_a_distribution_asks_for_its_siblings_in_its_own_version(path):
    project = PROJECTS[path]
    siblings = [wanted for wanted in project["dependencies"] if re.split(r"[^\w-]", wanted)[0] in OURS]
    assert siblings == [f"{re.split(r'[^A-Za-z0-9-]', wanted)[0]}=={project['version']}" for wanted in siblings]


def test_the_distribution_leyden_brings_all_others():
    assert {wanted.partition("==")[0] for wanted in PROJECTS[ROOT / "pyproject.toml"]["dependencies"]} == OURS - {"leyden"}


@pytest.mark.parametrize("path", PARTS, ids=folder)
def test_a_distribution_holds_one_typed_package_with_code(path):
    (package,) = [child for child in (path.parent / "src").iterdir() if child.is_dir()]
    assert (package / "py.typed").is_file()
    assert len([source for source in package.rglob("*.py") if source.name != "__init__.py"]) > 0


def test_pyright_looks_at_the_sources_of_all():
    looked_at = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]["include"]
    assert sorted(looked_at) == sorted(f"{folder(path)}/src" for path in PARTS)


def test_core_depends_on_little():
    names = {re.split(r"[^A-Za-z0-9-]", wanted)[0] for wanted in PROJECTS[ROOT / "core/pyproject.toml"]["dependencies"]}
    assert names == {"torch", "numpy", "pluggy", "fsspec", "packaging"}


@pytest.mark.parametrize("path", PARTS, ids=folder)
def test_every_entry_point_names_something_that_exists(path):
    for group, entry_points in PROJECTS[path].get("entry-points", {}).items():
        for name, value in entry_points.items():
            module, _, attribute = value.partition(":")
            loaded = importlib.import_module(module)
            assert not attribute or hasattr(loaded, attribute), f"{group}: {name} = {value}"


def test_the_catalog_of_names_is_what_the_distributions_register():
    spec = importlib.util.spec_from_file_location("make_catalog", ROOT / "tools/make_catalog.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.CATALOG.read_text(encoding="utf-8") == tool.catalog(), "run: make catalog"
