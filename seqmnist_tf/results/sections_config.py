"""Generated sections: the keys of the configuration, and the presets."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import OPTIONS, PRESETS, value_text
from ..system import markdown_table
from .board import Board
from .paragraphs import wrap_text
from .records import Record
from .sections_accuracy import epoch_range
from .seed_statistics import Statistics


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


def presets_list(board: Board) -> str:
    """One list item per preset, with what its published runs reached."""
    return "\n".join(
        wrap_text(f"- `{name}`: {preset.doc} {_published(board.records.get(name, []))}", others="  ")
        for name, preset in PRESETS.items()
    )


def _published(records: Sequence[Record]) -> str:
    if not records:
        return "No run is published yet."
    over_seeds = Statistics.from_records(records)
    first = epoch_range([record.summary["escape_epoch"] for record in records])
    return f"Test accuracy: **{over_seeds.percent()} %** ({over_seeds.meaning}); first epoch above 50 %: {first}."


def _escaped(text: str) -> str:
    """Return text in which Markdown shows backslashes and which does not end a table's cell."""
    return text.replace("\\", "\\\\").replace("|", "\\|")
