"""Runs a script that uses a package written for Lightning: with Lightning itself, and with the port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "scripts"
REAL = Path(sys.prefix) / "lightning"
"""Lightning itself, in a folder of its own in the environment: it is there only for whoever puts it on the path."""

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``outcome(script, needs, how)``: what a script printed at its end; it is run once a session.

    ``how`` is ``"lightning"``, ``"port"`` (no Lightning is installed) or ``"beside"`` (the port, with Lightning installed).
    """

    @cache
    def run(script: str, needs: str, how: str) -> Any:
        if find_spec(needs) is None:
            pytest.skip(f"{needs} is not installed; `make test-clients` makes the environment that has it")
        if how != "port" and not REAL.is_dir():
            pytest.skip("Lightning itself is not installed; `make test-clients` makes the environment that has it")
        folder = tmp_path_factory.mktemp(f"{script}-{how}")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        if how != "port":
            environment["PYTHONPATH"] = str(REAL)
        words = [sys.executable, *([] if how == "lightning" else ["-m", "leyden_lightning"]), str(SCRIPTS / f"{script}.py")]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def close(found: Any, expected: Any, where: str = "") -> None:
    """Compares two outcomes: all the same, but floats may differ by 1e-5 of their size, or by 1e-6."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            close(found[key], expected[key], f"{where}[{key!r}]")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            close(one, other, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6), where
    else:
        assert found == expected, where
