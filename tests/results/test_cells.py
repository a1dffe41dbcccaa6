"""The board of cells, and the table of settings."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from seqmnist_tf import config as cfg
from seqmnist_tf.results import plots
from seqmnist_tf.results.board import Board
from seqmnist_tf.results.pages import render_section
from seqmnist_tf.results.recipes import changed_keys
from seqmnist_tf.results.searches import Search
from seqmnist_tf.system import read_json_object
from seqmnist_tf.tune import SearchFolder, parse_space
from tests.toy import ROOT


def test_cells_are_held_against_the_lstm_of_their_board(published: Path) -> None:
    board = Board.read(Path("results"))
    first, second = board.records["strong"]
    assert render_section("board", board) == render_section("board_cells", board)
    assert render_section("board", board) == "No cell of the board has its seeds published yet."
    swapped = [(first, second.config), (second, first.config)]  # each seed has the other's results
    board.records["board_gru"] = [dataclasses.replace(r, name="board_gru", config=config) for r, config in swapped]
    assert board.cells == []  # no LSTM to be held against
    board.records["board_lstm"] = [dataclasses.replace(r, name="board_lstm") for r in (first, second)]
    lstm, gru = render_section("board", board).splitlines()[2:]
    assert lstm.startswith("| LSTM | ") and lstm.endswith(" | 2 of 2 |  |  |")  # at chance
    assert " | 2 of 2 | 0.00 (" in gru and gru.endswith(") |  |")  # two seeds have no p
    (axes,) = plots.draw_cells(board, None).axes  # type: ignore[arg-type]
    assert np.array(axes.lines[0].get_ydata())[-1] == (first.accuracy + second.accuracy) / 2
    said = render_section("board_cells", board)
    assert "| LSTM `board_lstm` | 16 |  | 1,322 | " in said and "| 99.1 (GRU, 256 units) |" in said
    assert " against " not in render_section("seeds", board)
    cells: dict[str, dict[str, Any]] = {
        "board_z": {"optimizer.name": "Adam"},
        "board_a": {},
        "board_m": {"task.permutation": "seed:1"},
    }
    for day, (name, values) in enumerate(cells.items(), 1):
        environment = {**first.environment, "started": f"2020-01-0{day}"}
        config = cfg.with_values(first.config, values)
        board.records[name] = [dataclasses.replace(first, name=name, config=config, environment=environment)]
    assert board.cells == ["board_lstm", "board_z", "board_a", "board_gru"]  # by date, and no other task
    board.diverged.append(dataclasses.replace(first, name="board_a"))
    (row,) = [line for line in render_section("board_cells", board).splitlines() if "`board_a`" in line]
    assert " | 2 of 2 | " in row


def test_a_setting_is_added_to_the_baseline_and_taken_away_from_all() -> None:
    searches = []
    for name, seed in itertools.product(("baseline", "strong"), (0, 1)):
        document = read_json_object(ROOT / f"examples/board/settings_{'added' if name == 'baseline' else 'taken'}.json")
        space = parse_space(document)
        apart = {"train.seed": seed, "task.validation_size": 10_000, "test.enabled": False, "train.n_epochs": 15}
        base = cfg.with_values(cfg.preset(name), apart)
        search = Search(SearchFolder(Path("settings"), "random", base, space, document, name), {})
        trials = []
        for label in reversed(space[0].choices):
            changed = changed_keys(search.config({"values": {"settings": label}, "seed": seed}), cfg.preset("baseline"))
            score = len(changed) / 100 + seed / 1000
            trials.append({"values": {"settings": label}, "seed": seed, "status": "completed", "score": score})
        searches.append(dataclasses.replace(search, document={"trials": trials}))
    _, _, none, *rows = render_section("settings", Board({}, {}, {}, searches=searches)).splitlines()
    assert none == "| none, or all | 0.00, 0.10 |  | 9.00, 9.10 |  |"
    assert len(rows) == 8 and "| `optimizer.lr 0.01` | 1.00, 1.10 | +1.00 | 8.00, 8.10 | -1.00 |" in rows
    clip = "| `optimizer.grad_clip_norm 0.1`, `optimizer.grad_clip_value null` |"
    assert f"{clip} 2.00, 2.10 | +2.00 | 7.00, 7.10 | -2.00 |" in rows
    _, _, none, *rows = render_section("settings", Board({}, {}, {}, searches=searches[:2])).splitlines()
    assert none == "| none, or all | 0.00, 0.10 |  |  |  |" and len(rows) == 8
    assert f"{clip} 2.00, 2.10 | +2.00 |  |  |" in rows
    _, _, none, *rows = render_section("settings", Board({}, {}, {}, searches=searches[2:])).splitlines()
    assert none == "| none, or all |  |  | 9.00, 9.10 |  |" and f"{clip}  |  | 7.00, 7.10 | -2.00 |" in rows
    searches[2].document["trials"][0]["status"] = "diverged"
    text = render_section("settings", Board({}, {}, {}, searches=searches[2:]))
    assert "| `train.shuffle true` |  |  | no score, 8.10 |  |" in text
    assert render_section("settings", Board({}, {}, {})) == "No search of the settings is published yet."
