"""Generated section: the text of the layers that records brought along."""

from __future__ import annotations

import re

from .board import Board
from .sections_accuracy import record_link


def layers_text(board: Board) -> str:
    """The text of each ``layer.py``, so that it can be read before it is allowed to run."""
    texts: dict[str, list[str]] = {}
    for record in board.all_records + board.trials:
        if record.layer_source is not None:
            texts.setdefault(record.layer_source, []).append(
                f"[`{record.name}`, seed {record.seed}]({record_link(record)})"
            )
    if not texts:
        return "No published run has a layer of its own."
    parts = []
    for text, records in texts.items():
        # A fence that no line of the text can end.
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        parts.append("\n".join([f"{', '.join(records)}:", "", f"{fence}python", text.rstrip("\n"), fence]))
    return "\n\n".join(parts)
