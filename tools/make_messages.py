"""Writes docs/messages.md: every message that our distributions say unasked, from their tables of ids.

``make messages`` runs this; a test compares.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/messages.md"

HEAD = """# Messages

What leyden says unasked, on standard error or as a warning, once and on rank 0. A message's id stands in brackets behind it, or
is the name of the warning's category. An error is no such message: it is an exception. Silence those that you have read:

```python
import leyden

leyden.silence("LY003", "LY006")
```

or from outside by `LEYDEN_SILENCE=LY003,LY006`, or, those that are warnings, by the filters of Python's `warnings`. Ids never
change and are never used again. This page is made from the tables in the `message_ids.py` of each distribution.

| id | what it says | from |
|---|---|---|
"""


def sources() -> list[Path]:
    """The packages of our distributions."""
    return sorted([*ROOT.glob("*/src/leyden*"), *ROOT.glob("plugins/*/src/leyden*")])


def tables() -> Iterator[tuple[str, str, str]]:
    """Each id, what its message says, and the package."""
    for package in sources():
        path = package / "message_ids.py"
        if path.exists():
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.AnnAssign) and node.value is not None:
                    for message_id, text in ast.literal_eval(node.value).items():
                        yield message_id, text, package.name


def page() -> str:
    """The page as text."""
    rows = sorted(tables())
    return HEAD + "".join(f"| {message_id} | {text} | `{package}` |\n" for message_id, text, package in rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
