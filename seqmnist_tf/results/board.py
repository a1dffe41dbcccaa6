"""Everything that tables and pictures are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..compare import SeededRuns
from ..system import InputError, read_json_object
from .records import Record, all_records, all_trials, completed_by_name
from .searches import Search, read_searches

HEADLINE = "strong"  # name of the experiment that this project is judged by
PERMUTED = "strong_permuted"  # name of the experiment on permuted pixels that stands beside it
BASELINE = "baseline"  # name of the original's recipe with Keras's defaults
FIRST_BOARD, BOARD = "board_", "board2_"  # how the names of the cells of a board begin, see docs/board.md
BOARD_SEEDS = 8  # of each cell


@dataclass(frozen=True)
class Board:
    """The content of a results folder.

    Attributes:
        records: lists of records by name, see :func:`completed_by_name`.
        literature: ``literature.json``: the results of papers.
        speed: ``benchmark.json``.
        trials: the trials.
        searches: the searches.
        diverged: the records of runs that diverged: their seeds belong to an experiment, and have no results.
    """

    records: dict[str, list[Record]]
    literature: dict[str, Any]
    speed: dict[str, Any]
    trials: list[Record] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    diverged: list[Record] = field(default_factory=list)

    def cells(self, board: str = BOARD) -> list[SeededRuns]:
        """Return the cells of a board that have all their seeds, the LSTM first."""
        cells = [self.experiment(name) for name in self.records if name.startswith(board)]
        whole = [cell for cell in cells if cell.n + len(cell.diverged) >= BOARD_SEEDS]
        return sorted(whole, key=lambda cell: (cell.name != f"{board}lstm", cell.name))

    def experiment(self, name: str) -> SeededRuns:
        """Return the completed runs of an experiment, and which of its seeds diverged."""
        diverged = tuple(record.seed for record in self.diverged if record.name == name)
        return SeededRuns(name, self.records[name], diverged=diverged)

    @classmethod
    def read(cls, folder: Path) -> Board:
        """Read a results folder.

        Raises:
            InputError: a file is missing or cannot be read.
        """
        literature, speed = (read_json_object(folder / f"{name}.json") for name in ("literature", "benchmark"))
        records = all_records(folder)
        others = all_trials(folder), read_searches(folder), [record for record in records if record.diverged]
        return cls(completed_by_name(records), literature, speed, *others)


def headline_record(board: Board) -> Record:
    """Return the record of the exported model, which the pictures show, or raise InputError: HEADLINE's lowest seed."""
    if HEADLINE not in board.records:
        raise InputError(f"no record of {HEADLINE}, which the pictures show (results add RUN_DIR --name {HEADLINE})")
    return board.records[HEADLINE][0]
