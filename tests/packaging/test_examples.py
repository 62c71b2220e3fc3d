"""The examples, run as their users run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*words):
    command = [sys.executable, "-W", "error", str(ROOT / "examples/digits.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_digits_reaches_its_accuracy_and_says_where_everything_is(isolated):
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(re.findall(r"^(test accuracy|logs|best checkpoint|look at it with) +(.*)$", done.stdout, re.MULTILINE))
    assert float(said["test accuracy"].partition("%")[0]) >= 97
    logs = isolated / said["logs"]
    assert {path.name.partition(".tfevents")[0] for path in logs.iterdir()} >= {"metrics.csv", "hparams.yaml", "events.out"}
    assert Path(said["best checkpoint"]).is_file()
    program, *options = said["look at it with"].split()
    assert shutil.which(program, path=os.environ["PATH"])
    assert options == ["--logdir", "leyden_logs"]
    assert "Warning" not in done.stderr


def test_digits_fails_when_the_accuracy_is_too_low(isolated):
    done = run("--max-epochs", "1", "--min-acc", "1.1")
    assert done.returncode == 1
    assert re.search(r"^the test accuracy 0\.\d+ is below 1\.1$", done.stderr, re.MULTILINE)
