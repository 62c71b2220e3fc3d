"""The README and the pages of docs/, and their parts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)


class Page:
    """A page of Markdown."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text(encoding="utf-8")
        self.prose = FENCED.sub("", self.text)
        self.fenced = FENCED.findall(self.text)
        self.blocks = re.findall(r"^```python\n(.*?)^```$", self.text, flags=re.DOTALL | re.MULTILINE)
        self.links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`(?!\])", "", self.prose))
        self.rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in self.prose.splitlines()
            if line.startswith("| ")
        ]

    @property
    def anchors(self) -> set[str]:
        titles = re.findall(r"^#+ (.*)$", self.prose, flags=re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


PAGES = {
    page.name.removeprefix("docs/"): page
    for page in map(Page, [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples/README.md"])
}


@pytest.fixture
def pages() -> dict[str, Page]:
    return PAGES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES.values(), ids=PAGES)
