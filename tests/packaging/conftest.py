"""Wheels of all our distributions and of a stranger's, and fresh environments to install them in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import venv
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ACME = Path(__file__).parent / "acme"


def _checked(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Environment:
    """A virtual environment that sees what torch and others installed, and nothing of leyden until it is installed here."""

    def __init__(self, folder: Path, third_party: Path, wheels: Path) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        self.wheels = wheels
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "third_party.pth").write_text(f"{third_party}\n")
        self.workdir = folder / "work"
        self.workdir.mkdir()
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith(("LEYDEN_", "PYTHON"))}

    def _pip(self, *arguments: str) -> str:
        return _checked([sys.executable, "-m", "pip", "--python", str(self.python), *arguments], env=self.variables)

    def install(self, *distributions: str) -> None:
        """Installs from the wheels that were built, dependencies included; what they need beside is there already."""
        self._pip("install", "-q", "--no-index", "--find-links", str(self.wheels), *distributions)

    def uninstall(self, *distributions: str) -> None:
        self._pip("uninstall", "-q", "-y", *distributions)

    def run(self, code: str, **variables: str) -> Any:
        """Runs a script that calls ``report(value)``, with warnings as errors, and returns the value."""
        script = "import json, sys\ndef report(value):\n    print('REPORT ' + json.dumps(value))\n" + textwrap.dedent(code)
        output = _checked([str(self.python), "-W", "error", "-c", script], cwd=self.workdir, env={**self.variables, **variables})
        (line,) = [line for line in output.splitlines() if line.startswith("REPORT ")]
        return json.loads(line.removeprefix("REPORT "))

    def command(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs an installed script, such as ``leyden``."""
        line = [str(self.python.parent / words[0]), *words[1:]]
        environment = {**self.variables, **variables}
        return subprocess.run(line, cwd=self.workdir, env=environment, capture_output=True, text=True, timeout=250, check=False)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of each distribution of the repository and of the stranger's."""
    folder = tmp_path_factory.mktemp("wheels")
    projects = [ROOT, *(path.parent for path in [*ROOT.glob("*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")]), ACME]
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(folder)]
    _checked([*command, *map(str, projects)])
    return folder


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to everything that is installed here, save leyden, the installer and whatever is read at start-up."""
    folder = tmp_path_factory.mktemp("third_party")
    places = {Path(str(distribution.locate_file(""))) for distribution in metadata.distributions()}
    for installed in (path for place in places for path in place.iterdir()):
        name = installed.name.lower()
        ours = name.startswith(("leyden", "_leyden", "acme"))
        if not ours and not name.startswith(("pip", "__pycache__")) and not name.endswith(".pth"):
            (folder / installed.name).symlink_to(installed)
    return folder


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory, third_party: Path, wheels: Path) -> Callable[..., Environment]:
    """Makes an environment with the given distributions."""

    def make(*distributions: str) -> Environment:
        environment = Environment(tmp_path_factory.mktemp("environment") / "venv", third_party, wheels)
        environment.install(*distributions)
        return environment

    return make
