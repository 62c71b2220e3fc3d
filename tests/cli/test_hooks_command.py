"""``leyden hooks``."""

from __future__ import annotations

import pytest
from leyden import hookspecs
from leyden_cli import main


def test_one_stage_is_the_order_that_core_keeps(capsys):
    assert main(["hooks", "fit"]) == 0
    assert capsys.readouterr().out == "\n".join(hookspecs.describe("fit")) + "\n"


def test_without_a_stage_all_are_printed(capsys):
    assert main(["hooks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == ["fit:", "validate:", "test:", "predict:"]


def test_help_names_the_stages(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["hooks", "--help"])
    assert stopped.value.code == 0
    assert "fit, validate, test, predict" in capsys.readouterr().out
