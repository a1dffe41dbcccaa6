"""Generated sections of the board of cells (docs/board.md), and of what makes the LSTM strong."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..compare import (
    PairResult,
    SeededRuns,
    count_of,
    in_percent,
    layer_name,
    p_text,
    pair_runs,
    pair_statement,
    percent_range,
)
from ..config import NUM_CLASSES, constants_text, preset, value_text
from ..system import escape_markdown, markdown_table
from .board import BASELINE, Board, wrap_text
from .recipes import changed_keys, chosen_by

NO_CELL = "No cell of the board has its seeds published yet."


def board_table(board: Board) -> str:
    """One short row per cell, for the README."""
    cells, pairs = _compared(board)
    head = ["cell", ">seeds", ">test accuracy, %", ">difference, points", ">p (Holm)"]
    rows = [
        [layer_name(cell.config), cell.seeds_text, f"**{cell.text}**", *_against(cell, pairs)]
        for cell in cells.values()
    ]
    return markdown_table(head, rows) if rows else NO_CELL


def board_text(board: Board) -> str:
    """One row per cell with what its authors print, then what the tests say."""
    cells, pairs = _compared(board)
    if not cells:
        return NO_CELL
    head = ["cell", ">units", "constants", ">parameters", ">seeds", ">test accuracy, %", ">lowest to highest, %"]
    head += [">95 % interval, %", ">against the LSTM, points", ">p after Holm", "chosen by", "printed elsewhere, %"]
    rows = [
        [
            f"{layer_name(cell.config)} {cell.name}",
            cell.units,
            escape_markdown(constants_text(cell.config)),
            f"{cell.num_params:,}",
            cell.seeds_text,
            f"**{cell.text}**",
            percent_range(cell.range if cell.n > 1 else None),
            percent_range(cell.ci_95),
            *_against(cell, pairs),
            chosen_by(board, board.records[name][0]),
            _printed(board, name),
        ]
        for name, cell in cells.items()
    ]
    said = [wrap_text(pair_statement(pair, pairs), "- ", "  ") for pair in pairs]
    said += [wrap_text(_with_diverged(cell), "- ", "  ") for cell in cells.values() if cell.diverged]
    return "\n\n".join([markdown_table(head, rows), *(["\n".join(said)] if said else [])])


def _with_diverged(cell: SeededRuns) -> str:
    number = len(cell.diverged)
    mean = (cell.mean * cell.n + number / NUM_CLASSES) / (cell.n + number)
    seeds = count_of(number, "seed")
    return f"{cell.name}: with the {seeds} that diverged counted at chance, its mean is {in_percent(mean)} %."


def _compared(board: Board) -> tuple[dict[str, SeededRuns], tuple[PairResult, ...]]:
    """Return the cells whose seeds are published, by name of the experiment, and each other one against the LSTM."""
    cells = {name: board.with_predictions(name) for name in board.cells}
    return cells, pair_runs([*cells.values()])


def _against(cell: SeededRuns, pairs: Sequence[PairResult]) -> tuple[str, str]:
    """Return the difference from the LSTM and its corrected p; empty of the LSTM itself."""
    pair = next((pair for pair in pairs if pair.b == cell.name), None)
    return (in_percent(pair.mean_difference, sign=True), p_text(pair.holm_p)) if pair else ("", "")


def _printed(board: Board, name: str) -> str:
    """Return the accuracies of other sources that stand beside a cell's."""
    texts = []
    for row in (*board.literature["plain_lstm"], *board.literature["other_cells"]):
        if row.get("board") == name:
            size = f", {row['parameters']} parameters" if row.get("parameters") else ""
            texts.append(f"{row['smnist']} ({row['source']}{size})")
    return "; ".join(texts)


def settings_text(board: Board) -> str:
    """One row per setting: added to the baseline alone, and taken away from all settings alone."""
    searches = [search for search in board.searches if search.of_settings]
    if not searches:
        return "No search of the settings is published yet."
    scores: defaultdict[frozenset[str], list[float]] = defaultdict(list)  # NaN of a trial that was not completed
    values: dict[str, Any] = {}
    for search in searches:
        for row in search.of_seed(own=True):
            changed = changed_keys(search.config(row), preset(BASELINE))
            values |= changed
            score = row["score"] if row["status"] == "completed" else math.nan
            scores[frozenset(changed)].append(score)
    every = frozenset(values)
    head = ["setting", ">added to the baseline, %", ">change, points", ">taken away from all, %", ">change, points"]
    rows: dict[str, list[str]] = {}
    for found in list(scores):
        keys = min((found, every - found), key=len)  # those of one setting
        added, taken = scores[keys], scores[every - keys]
        name = ", ".join(f"`{key} {value_text(values[key])}`" for key in sorted(keys)) or "none, or all"
        changes = [_change(added, scores[frozenset()]), _change(taken, scores[every])] if keys else ["", ""]
        rows[name] = [name, _percents(added), changes[0], _percents(taken), changes[1]]
    return markdown_table(head, sorted(rows.values(), key=lambda row: row[0] != "none, or all"))


def _percents(shares: Sequence[float]) -> str:
    return ", ".join("no score" if math.isnan(share) else in_percent(share) for share in shares)


def _change(after: Sequence[float], before: Sequence[float]) -> str:
    change = statistics.fmean(after) - statistics.fmean(before) if after and before else math.nan
    return "" if math.isnan(change) else in_percent(change, sign=True)
