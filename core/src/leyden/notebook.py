"""What notebooks show in place of text: HTML in which nothing of the user's is taken for a tag."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_CELL = "padding: 0.1em 1em 0.1em 0; text-align: "


class Text(str):
    """A str of several lines; a notebook shows them as lines and not as a ``repr``."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f'<pre style="white-space: pre; overflow-x: auto">{escape(self)}</pre>'


def html_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """A table as :func:`leyden.messages.table` writes it in plain text: the first column to the left, the others to the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        sides = ["left", *["right"] * (len(cells) - 1)]
        marked = (f'<{tag} style="{_CELL}{side}">{escape(cell)}</{tag}>' for side, cell in zip(sides, cells, strict=True))
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"
