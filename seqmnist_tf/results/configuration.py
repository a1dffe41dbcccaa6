"""Generated sections: the keys of the configuration, the presets, and the layers that records brought along."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..compare import SeededRuns
from ..config import LAYER_FILE, OPTIONS, PRESETS, value_text
from ..system import markdown_table
from .board import Board, epoch_range, record_link, wrap_text
from .records import Record


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
        wrap_text(f"- `{name}`: {preset.doc} {_published(name, board.records.get(name, []))}", others="  ")
        for name, preset in PRESETS.items()
    )


def _published(name: str, records: Sequence[Record]) -> str:
    if not records:
        return "No run is published yet."
    over_seeds = SeededRuns(name, records)
    first = epoch_range([record.summary["escape_epoch"] for record in records])
    return f"Test accuracy: **{over_seeds.text} %** ({over_seeds.meaning}); first epoch above 50 %: {first}."


def _escaped(text: str) -> str:
    """Return text in which Markdown shows backslashes and which does not end a table's cell."""
    return text.replace("\\", "\\\\").replace("|", "\\|")


def layers_text(board: Board) -> str:
    """The text of each ``layer.py`` and of what it imports, so that it can be read before it is allowed to run."""
    texts: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for record in board.all_records + board.trials:
        if files := record.layer_texts:
            link = f"[`{record.name}`, seed {record.seed}]({record_link(record)})"
            texts.setdefault(tuple(files.items()), []).append(link)
    for search in board.searches:
        for source in search.document["layers"].values():
            texts.setdefault(((LAYER_FILE, source),), []).append(f"`{search.name}`")
    if not texts:
        return "No published run has a layer of its own."
    parts = []
    for sources, records in texts.items():
        parts.append(f"{', '.join(records)}:")
        for name, text in sources:
            # A fence that no line of the text can end.
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            parts += [f"`{name}`:"] * (len(sources) > 1)
            parts.append("\n".join([f"{fence}python", text.rstrip("\n"), fence]))
    return "\n\n".join(parts)
