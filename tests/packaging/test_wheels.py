"""What is inside the wheels."""

from __future__ import annotations

import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path.parent.name: path for path in [*ROOT.glob("*/src/*/py.typed"), *ROOT.glob("plugins/*/src/*/py.typed")]}


def wheel_of(wheels: Path, name: str) -> zipfile.ZipFile:
    (path,) = wheels.glob(f"{name}-*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("package", SOURCES)
def test_a_wheel_holds_its_package_whole_and_nothing_else(wheels, package):
    distribution = "leyden_core" if package == "leyden" else package
    folder = SOURCES[package].parent
    kept = {path.relative_to(folder.parent).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    with wheel_of(wheels, distribution) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == kept


def test_the_wheel_of_leyden_has_no_code_and_asks_for_all_others(wheels):
    with wheel_of(wheels, "leyden") as wheel:
        assert [name for name in wheel.namelist() if ".dist-info/" not in name] == []
        (name,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
        metadata = Parser().parsestr(wheel.read(name).decode())
    asked = {wanted.partition("==")[0] for wanted in metadata.get_all("Requires-Dist") or []}
    assert asked == {("leyden-core" if package == "leyden" else package.replace("_", "-")) for package in SOURCES}


def test_a_wheel_is_for_any_platform(wheels):
    assert [path.name for path in wheels.glob("*.whl") if not path.name.endswith("-py3-none-any.whl")] == []
