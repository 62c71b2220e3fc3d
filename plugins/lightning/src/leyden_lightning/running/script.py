"""Runs a script, or a module as ``python -m`` does, with Lightning's names meaning the port."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from leyden_lightning.running.install import install


class ScriptError(ValueError):
    """What was named cannot be run."""


def run_script(words: Sequence[str]) -> None:
    """Runs ``script.py arg ...`` or ``-m module arg ...`` in this process, as its main program.

    Raises:
        ScriptError: nothing is named, or there is no such script or module.
    """
    words = list(words)
    as_module = words[:1] == ["-m"]
    words = words[1:] if as_module else words
    if not words:
        raise ScriptError("expected a script, or -m and a module: leyden run train.py --epochs 3")
    name = words[0]
    if not as_module:
        _check_script(name)
        install()
        sys.argv = words
        sys.path.insert(0, str(Path(name).resolve().parent))
        runpy.run_path(name, run_name="__main__")
        return
    if name.endswith(".py"):
        raise ScriptError(f"-m takes the name of a module, not a file; write leyden run {name}")
    install()
    sys.argv = words
    sys.path.insert(0, str(Path.cwd()))
    _check_module(name)
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _check_script(name: str) -> None:
    path = Path(name)
    if not path.exists():
        raise ScriptError(f"there is no script {name!r} in {str(Path.cwd())!r}")
    if path.is_dir() and not (path / "__main__.py").exists():
        raise ScriptError(f"{name!r} is a folder without a __main__.py; name the script in it")


def _check_module(name: str) -> None:
    if name.startswith("."):
        raise ScriptError(f"-m takes the whole name of a module, not the relative one {name!r}")
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the package is there, and what it imports is not
        spec = None
    if spec is None:
        raise ScriptError(f"there is no module {name!r}, neither in {str(Path.cwd())!r} nor among what is installed")
    if spec.submodule_search_locations is not None and importlib.util.find_spec(f"{name}.__main__") is None:
        raise ScriptError(f"{name!r} is a package without a __main__; name the module in it: -m {name}.train")
