"""The registry of generated sections.

A section is a function from the board to Markdown. Its links are relative to the root of the clone.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

from .board import Board

Section = Callable[[Board], str]

DOCUMENT_SECTIONS: dict[str, Section] = {}


def document_section(name: str) -> Callable[[Section], Section]:
    """Return a decorator that registers a section under the name in its marker, ``<!-- results: NAME -->``.

    Raises:
        ValueError: the name is taken.

    Example::

        @document_section("headline")
        def headline_text(board: Board) -> str: ...
    """

    def register(section: Section) -> Section:
        if name in DOCUMENT_SECTIONS:
            raise ValueError(f"section {name} is registered twice")
        DOCUMENT_SECTIONS[name] = section
        return section

    return register


def wrap_text(text: str, first: str = "", others: str = "") -> str:
    """Return a paragraph in lines of at most 120 characters, without a break inside of ``99.11 ± 0.04 %``.

    ``first`` and ``others`` are the indents of its lines.
    """
    glued = re.sub(r" (?=[±%])|(?<=±) ", "\0", text)
    filled = textwrap.fill(
        glued, 120, initial_indent=first, subsequent_indent=others, break_on_hyphens=False, break_long_words=False
    )
    return filled.replace("\0", " ")
