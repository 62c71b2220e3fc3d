"""``leyden verify-resume`` says in a sentence why it has nothing to run."""

from __future__ import annotations

import pytest
from leyden_cli import main


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("gone", "{path} has no function 'gone'"),
        ("made", "made() returned 3; expected (trainer, model) or (trainer, model, data)"),
    ],
)
def test_a_function_that_makes_nothing_to_run_is_told_so(tmp_path, capfd, function, said):
    path = tmp_path / "train.py"
    path.write_text("def made():\n    return 3\n")
    assert main(["verify-resume", f"{path}:{function}", "--at", "2"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"leyden: verify-resume: {said.format(path=path)}"
    assert len(lines) == 2
