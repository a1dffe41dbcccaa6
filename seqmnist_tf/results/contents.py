"""``results/tables.json``: which records make which table, and what the tables call them."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import msgspec

from ..system import reading

CONTENTS_FILE = "tables.json"


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The records of one name, as a row of a board."""

    records: str
    note: str = ""  # how they differ from the board's other rows, such as "first edition"
    other_search: str | None = None  # the records of the best recipe that the cell's other search found


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cells that were tuned alike on one task; the first is the reference that the others are compared with."""

    task: str
    cells: list[Row]
    beside: list[Row] = []  # shown with them in the README, and not compared
    further: list[Row] = []  # runs of the same rules that are described, and not compared


class SearchGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The published searches that are one row of the table of searches, such as the rungs of a cell."""

    name: str
    parts: list[str]  # patterns of names, in the order in which they are shown


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``tables.json`` says; names are those of folders in ``results/``."""

    boards: list[Board]
    searches: list[SearchGroup]
    elsewhere: list[str]  # patterns of records and searches that stand on another page, and in no generated table
    learning_curves: list[str]  # that the picture of this name shows
    comparison: list[str]  # that the table of this name compares with the first
    former_layers: dict[str, str]  # SHA-256 of a layer's file that examples/ once had, and which

    @classmethod
    def read(cls, folder: Path) -> Contents:
        """Read ``tables.json`` in a results folder."""
        path = folder / CONTENTS_FILE
        with reading(str(path)):
            return msgspec.json.decode(path.read_bytes(), type=cls)

    def is_elsewhere(self, name: str) -> bool:
        """Return whether the records or the search of a name stand on another page."""
        return any(fnmatch(name, pattern) for pattern in self.elsewhere)

    def of_a_board(self, name: str) -> bool:
        """Return whether the records of a name are those of a board's cell."""
        rows = [row for board in self.boards for row in (*board.cells, *board.further)]
        return any(name in (row.records, row.other_search) for row in rows)
