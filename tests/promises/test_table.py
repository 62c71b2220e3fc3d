"""The table of promises in README.md names tests that exist, and every test of a promise is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
NUMBERS = [*range(1, 23), *range(25, 52), *range(53, 56), *range(58, 66)]


def table():
    """For each promise the tests named, and what the table says is missing."""
    rows = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) ?\|$", (HERE / "README.md").read_text(), re.MULTILINE)
    return {int(number): (re.findall(r"`([^`]+)`", tests), tests, missing) for number, tests, missing in rows}


def functions_in(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_a_row():
    assert sorted(table()) == NUMBERS


def test_a_row_names_tests_or_says_why_there_is_none():
    for number, (named, cell, missing) in table().items():
        assert named or (cell == "not yet" and missing), number


def test_every_test_named_in_the_table_exists():
    for number, (named, _, _) in table().items():
        for name in named:
            path, test = name.split("::")
            assert test in functions_in(HERE.parent / path), f"promise {number}: there is no {name}"


def test_every_test_of_a_promise_is_in_its_row():
    rows = table()
    for path in sorted(HERE.glob("test_*.py")):
        for test in functions_in(path):
            number = re.match(r"test_promise_(\d+)_", test)
            if number:
                assert f"promises/{path.name}::{test}" in rows[int(number[1])][0]
