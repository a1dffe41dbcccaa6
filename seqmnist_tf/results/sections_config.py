"""Generated sections: the keys of the configuration, and the presets."""

from __future__ import annotations

from ..config import OPTIONS, PRESETS, value_text
from ..system import markdown_table
from .board import Board
from .sections import document_section, wrap_text


@document_section("configuration")
def configuration_table(_: Board) -> str:
    """One row per key of the configuration."""
    rows = [
        [
            f"`{key}`",
            f"`{value_text(option.default)}`",
            _escaped(option.allowed),
            _escaped(f"{option.meta['doc']} {option.meta['details']}".strip()),
        ]
        for key, option in OPTIONS.items()
    ]
    return markdown_table(["key", "default", "allowed values", "meaning"], rows)


@document_section("presets")
def presets_list(board: Board) -> str:
    """One list item per preset, which says so where no run of it is published."""
    items = {
        name: preset.doc if name in board.records else f"{preset.doc} No run is published yet."
        for name, preset in PRESETS.items()
    }
    return "\n".join(wrap_text(f"- `{name}`: {text}", others="  ") for name, text in items.items())


def _escaped(text: str) -> str:
    """Return text in which Markdown shows backslashes and which does not end a table's cell."""
    return text.replace("\\", "\\\\").replace("|", "\\|")
