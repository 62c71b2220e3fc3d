"""The examples of the documentation, run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from leyden import Callback
from leyden.plugins import available

DOCS = Path(__file__).parents[2] / "docs"
BATTERIES = (DOCS / "batteries.md").read_text()


def sections(page):
    """The examples of each section, and before all of them the lines that they share."""
    first, *rest = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    shared = re.findall(r"```python\n(.*?)```", first, flags=re.DOTALL)[-1]
    for title, text in zip(rest[::2], rest[1::2], strict=True):
        blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        if blocks:
            yield pytest.param(shared, blocks, id=title)


PAGES = [*sections(BATTERIES), *sections((DOCS / "callbacks.md").read_text())]


@pytest.mark.parametrize(("shared", "blocks"), PAGES)
def test_examples_run(shared, blocks, capsys):
    pytest.importorskip("matplotlib").use("agg")
    names = {}
    exec(shared, names)
    for block in blocks:
        assert len(block.splitlines()) <= 30
        exec(block, names)


def test_every_registered_callback_has_an_example():
    examples = "\n".join(block for page in PAGES for block in page.values[1])
    for plugin in available(Callback.group):
        if plugin.distribution == "leyden-callbacks":
            name = plugin.value.split(":")[1]
            assert f'"{plugin.name}"' in examples or name in examples or plugin.name in ("prediction_writer", "restore_best")
