"""The tables have the numbers of the records. Those of the repository are compared with its documents besides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import NUM_TEST
from seqmnist_tf.results import plots, tables
from seqmnist_tf.results.records import CELLS, Board, Record, Search
from seqmnist_tf.system import read_json_object
from seqmnist_tf.tune import SearchFolder
from tests.toy import ROOT


def with_counts(record: Record, name: str, counts: list[int]) -> list[Record]:
    """Return records of a name, one a seed, with these numbers of correct digits."""
    return [
        dataclasses.replace(
            record,
            name=name,
            config=cfg.with_values(record.config, {"train.seed": seed}),
            summary={**record.summary, "final": {"test_correct": count, "test_total": NUM_TEST}},
        )
        for seed, count in enumerate(counts)
    ]


@pytest.fixture
def board(published: Path) -> Board:
    return Board.read(Path("results"))


@pytest.mark.parametrize(
    ("counts", "cells"),
    [([9_800, 9_900, 9_850], "| **98.50 ± 0.50** | 97.26 to 99.74 |"), ([9_838], "| **98.38** |  |")],
)
def test_runs_of_an_experiment(counts: list[int], cells: str, board: Board) -> None:
    board.records["strong"] = with_counts(board.records["strong"][0], "strong", counts)
    (row,) = tables.runs_table(board).splitlines()[2:]
    assert row.startswith("| `strong` | sMNIST, 40 training images, ") and cells in row
    for seed, count in enumerate(counts):
        assert f"[{count:,}](results/strong/seed{seed})" in row
    (row,) = tables.main_table(board).splitlines()[2:]
    assert cells.split(" | ")[0] in row


def test_epochs_and_minutes_of_a_run(board: Board) -> None:
    first, second = board.records["strong"]
    slow = dataclasses.replace(first, history=[{"seconds": seconds} for seconds in (60.0, 60.0, 6000.0, 63.0)])
    assert slow.minutes == 61.5 / 60 * 4  # without its pause
    for escaped, cell in (((7, 2), "| 2 to 7 |"), ((None, 2), "| 2 to never |")):
        board.records["strong"] = [
            dataclasses.replace(one, summary={**one.summary, "escape_epoch": epoch})
            for one, epoch in zip((first, second), escaped, strict=True)
        ]
        assert cell in tables.runs_table(board)


def rows_of(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def test_the_board_shows_cells_that_have_all_their_seeds(board: Board) -> None:
    one = board.records["strong"][0]
    lstm = [9_800, 9_810, 9_820, 9_830, 9_840, 9_850, 9_860, 9_870]
    assert tables.board_table(board).startswith("Still to come: `lstm` (not begun), ")
    board.records["board2_lstm"] = with_counts(one, "board2_lstm", lstm)
    board.records["board2_gru"] = with_counts(one, "board2_gru", [count + 100 for count in lstm[:7]])
    board.records["board_lstm"] = with_counts(one, "board_lstm", lstm)
    assert "board" not in tables.runs_table(board)
    assert len(rows_of(tables.first_board_table(board))) == 1
    (row,) = rows_of(tables.board_table(board))  # seven seeds are not all
    assert row.startswith("| LSTM, 16 units | 1,322 | 98.35 | **98.35 ± 0.24** | 98.00 | 0 of 8 | ")
    assert " |  |  |  | 0.01, null, 0.0, 0.0 | [9,800](results" in row
    assert "Still to come: `gru` (7 of 8 seeds), `ur_lstm` (not begun), " in tables.board_table(board)
    board.records["board2_gru"] = with_counts(one, "board2_gru", [count + 100 for count in lstm])
    _, row = rows_of(tables.board_table(board))
    # Welch: 1 ± 2.1448 * 0.2449 * sqrt(2 / 8) points; the two samples do not overlap in 12,870 splits but a few
    compared = " | 99.35 | **99.35 ± 0.24** | 99.00 | 0 of 8 | +1.00 (+0.74 to +1.26) | <0.001 |"
    assert f"{compared} different |" in row
    figure = plots.draw_cells(board, None)  # type: ignore[arg-type]
    drawn = [axes for axes in figure.axes if axes.lines]
    assert [len(axes.lines) for axes in drawn] == [8, 8]
    assert np.asarray(drawn[0].lines[0].get_ydata()).tolist() == one.curve
    assert rows_of(tables.board_summary(board)) == [] and "min_gru" in tables.board_summary(board)
    for cell in CELLS[2:]:
        board.records[f"board2_{cell}"] = with_counts(one, f"board2_{cell}", lstm)
    assert "Still to come" not in tables.board_table(board)
    summary = rows_of(tables.board_summary(board))
    assert len(summary) == len(CELLS) and sum(line.endswith(compared) for line in summary) == 1
    board.records["board2_gru"].pop()
    board.diverged.append(
        dataclasses.replace(
            one,
            name="board2_gru",
            config=cfg.with_values(one.config, {"train.seed": 7}),
            summary={**one.summary, "status": "diverged"},
        )
    )
    (row,) = (row for row in rows_of(tables.board_table(board)) if "board2_gru" in row)
    assert " | 1 of 8 | " in row and "[diverged](results/board2_gru/seed7)" in row


def test_the_rungs_of_a_cell_are_one_row() -> None:
    document = read_json_object(ROOT / "results" / "searches" / "settings_added_0.json")
    settings = SearchFolder.read(Path("x"), document)
    searches = []
    for name, epochs, score in (
        ("board2_lstm_rung1", 3, 0.9),
        ("board2_lstm_rung3_seed100", 15, 0.95),
        ("board2_lstm_rung3_seed101", 15, 0.93),
        ("mine", 5, 0.8),
    ):
        base = cfg.with_values(settings.base, {"train.n_epochs": epochs})
        trials = [{**row, "score": score, "seconds": 1800.0} for row in document["trials"][:2]]
        one = dataclasses.replace(settings, path=Path(f"{name}.json"), base=base)
        searches.append(Search(one, {**document, "trials": trials}))
    first, second = tables.searches_table(Board({}, {}, {}, searches=searches)).splitlines()[2:]
    links = [f"(results/searches/board2_lstm_{rung}.json)" for rung in ("rung1", "rung3_seed100", "rung3_seed101")]
    assert f"[2 x 3]{links[0]}, [2 x 15]{links[1]}, [2 x 15]{links[2]} | 94.00 | 3.0 |" in first
    assert second.startswith("| `mine` | LSTM | [2 x 5](results/searches/mine.json) | 80.00 | 1.0 |")
