"""Markdown tables, and text of others in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table without a newline at its end.

    Args:
        head: headings of the columns; one that begins with ``>`` is the heading of a right-aligned column.
        rows: cells of each row, as many as there are headings.

    Raises:
        ValueError: a row has more or fewer cells than the head.

    Example::

        markdown_table(["run", ">seeds"], [["baseline", 5]])
    """
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"each row must have {len(head)} cells (got {len(row)}: {list(row)})")
    names = " | ".join(name.removeprefix(">") for name in head)
    rule = "|".join("---:" if name.startswith(">") else "---" for name in head)
    return "\n".join([f"| {names} |", f"|{rule}|", *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def escape_markdown(text: str) -> str:
    """Return text of others so that it stands in a table's cell as it is: no markup, no HTML, one line.

    Characters that cannot be printed become ``?``.

    Example:
        >>> escape_markdown("a|b <!-- end -->")
        'a\\\\|b &lt;!-- end --&gt;'
    """
    text = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_~\[\]|])", r"\\\1", text)
