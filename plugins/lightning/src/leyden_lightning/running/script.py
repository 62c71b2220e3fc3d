"""Runs a script, or a module as ``python -m`` does, with Lightning's names meaning the port."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from leyden_lightning.running.install import install


def run_script(words: Sequence[str]) -> None:
    """Runs ``script.py arg ...`` or ``-m module arg ...`` in this process, as its main program.

    Raises:
        FileNotFoundError: there is no such script.
        ValueError: nothing is named.
    """
    words = list(words)
    as_module = words[:1] == ["-m"]
    words = words[1:] if as_module else words
    if not words:
        raise ValueError("expected a script, or -m and a module: leyden run train.py --epochs 3")
    name = words[0]
    if not as_module and not Path(name).exists():
        raise FileNotFoundError(f"there is no script {name!r}")
    install()
    sys.argv = words
    if as_module:
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(name).resolve().parent))
        runpy.run_path(name, run_name="__main__")
