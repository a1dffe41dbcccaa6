"""Everything that tables and pictures are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..compare import SeededRuns
from ..system import read_json_object
from .records import Record, Search, all_records, all_searches, all_trials

HEADLINE = "strong"  # name of the experiment that this project is judged by
PERMUTED = "strong_permuted"  # name of the experiment on permuted pixels that stands beside it
BASELINE = "baseline"  # name of the original's recipe with Keras's defaults
FIRST_BOARD, BOARD = "board_", "board2_"  # how the names of the cells of a board begin, see docs/board.md
CELLS = ("lstm", "gru", "ur_lstm", "lem", "cornn", "min_gru")  # that the present board is to have
BOARD_SEEDS = 8  # of each cell
PICTURE_FOLDER, CELLS_PICTURE = "plots", "cells.png"


@dataclass(frozen=True)
class Board:
    """The content of a results folder."""

    records: dict[str, list[Record]]  # by name, without those that diverged
    literature: dict[str, Any]  # literature.json: the results of papers
    speed: dict[str, Any]  # benchmark.json
    trials: list[Record] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    diverged: list[Record] = field(default_factory=list)  # their seeds belong to an experiment, and have no results

    def cells(self, board: str = BOARD) -> list[SeededRuns]:
        """Return the cells of a board that have all their seeds, the LSTM first."""
        cells = [self.experiment(name) for name in self.records if name.startswith(board)]
        whole = [cell for cell in cells if cell.n + len(cell.diverged) >= BOARD_SEEDS]
        return sorted(whole, key=lambda cell: (cell.name != f"{board}lstm", cell.name))

    def unfinished(self) -> dict[str, str]:
        """Return how far each cell of the present board is that has not all its seeds: ``{"lem": "3 of 8 seeds"}``."""
        done, states = {cell.name for cell in self.cells()}, {}
        for cell in (cell for cell in CELLS if BOARD + cell not in done):
            seeds = len(self.records.get(BOARD + cell, [])) + sum(one.name == BOARD + cell for one in self.diverged)
            searched = any(search.path.stem.startswith(f"{BOARD}{cell}_") for search in self.searches)
            states[cell] = f"{seeds} of {BOARD_SEEDS} seeds" if seeds else "search" if searched else "not begun"
        return states

    def experiment(self, name: str) -> SeededRuns:
        """Return the completed runs of an experiment, and which of its seeds diverged."""
        diverged = tuple(record.seed for record in self.diverged if record.name == name)
        return SeededRuns(name, self.records[name], diverged=diverged)

    @classmethod
    def read(cls, folder: Path) -> Board:
        """Read a results folder."""
        literature, speed = (read_json_object(folder / f"{name}.json") for name in ("literature", "benchmark"))
        completed: dict[str, list[Record]] = {}
        diverged: list[Record] = []
        for record in all_records(folder):
            (diverged if record.diverged else completed.setdefault(record.name, [])).append(record)
        return cls(completed, literature, speed, all_trials(folder), all_searches(folder), diverged)
