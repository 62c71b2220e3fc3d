"""The submodules, which exist only once they are imported, are seen by type checkers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/make_stubs.py"
EXAMPLE = """
import leyden_lightning as pl
from leyden_lightning.callbacks import EarlyStopping, LearningRateMonitor
from leyden_lightning.callbacks.early_stopping import EarlyStopping as Deep
from leyden_lightning.loggers import CSVLogger
from leyden_lightning.utilities.seed import seed_everything
from leyden_lightning.utilities.exceptions import MisconfigurationException

same: type[EarlyStopping] = Deep
callbacks: list[pl.Callback] = [EarlyStopping("loss", patience=2), LearningRateMonitor()]
trainer = pl.Trainer(callbacks=callbacks, logger=CSVLogger("logs"))
seed: int = seed_everything(1)
error: type[Exception] = MisconfigurationException
"""
MISTAKE = "from leyden_lightning.callbacks import EarlyStoping\n"


def stubs() -> dict[Path, str]:
    spec = importlib.util.spec_from_file_location("make_stubs", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    found: dict[Path, str] = tool.stubs()
    return found


def test_the_stubs_are_those_of_the_table():
    wanted = stubs()
    assert set((ROOT / "plugins/lightning/src").rglob("*.pyi")) == set(wanted)
    assert [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text] == []  # run make stubs


def test_stub_folders_do_not_hide_the_submodules():
    from leyden_lightning import callbacks
    from leyden_lightning.utilities import seed

    assert callbacks.EarlyStopping.__name__ == "EarlyStopping"
    assert seed.__spec__.origin is None
    assert callable(seed.seed_everything)


def test_mypy_sees_the_submodules(tmp_path):
    pytest.importorskip("mypy")
    example, mistake = tmp_path / "example.py", tmp_path / "mistake.py"
    example.write_text(EXAMPLE)
    mistake.write_text(MISTAKE)
    # Without what is installed, of which torch alone takes a minute.
    words = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--no-site-packages",
        "--ignore-missing-imports",
    ]
    words += ["--cache-dir", str(tmp_path / "cache"), str(example), str(mistake)]
    sources = {**os.environ, "MYPYPATH": os.pathsep.join(map(str, [*ROOT.glob("*/src"), *ROOT.glob("plugins/*/src")]))}
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=sources, timeout=400)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert 'has no attribute "EarlyStoping"' in errors[0]
