"""docs/lightning.md names tests and programs that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
TEXT = (HERE.parents[1] / "docs/lightning.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| S\d{3} \|", line)]


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_row_names_a_test_that_exists():
    programs = functions(HERE / "programs.py")
    wrong = []
    for row in ROWS:
        for name, test, program in re.findall(r"`(test_\w+\.py)::(test_\w+)`(?: \((\w+)\))?", row):
            if test not in functions(HERE / name) or (program and program not in programs):
                wrong.append(row)
    assert wrong == []


def test_rows_without_a_test_here_say_where_there_is_one():
    without = [row.split(" |")[0][2:] for row in ROWS if "`test_" not in row]
    assert without == ["S100", "S201", "S217", "S219"]
    assert len(ROWS) == len({row[:6] for row in ROWS}) > 180
