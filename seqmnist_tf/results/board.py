"""Everything that documents and pictures are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import NUM_TEST
from ..system import InputError, read_json_object
from .records import Record, all_trials, read_records

HEADLINE = "strong"  # name of the experiment that this project is judged by
PERMUTED = "strong_permuted"  # name of the experiment on permuted pixels that stands beside it
BASELINE = "baseline"  # name of the original's recipe with Keras's defaults
LIKE_THE_ORIGINAL = ("original", BASELINE)  # names of the experiments that the original's accuracy is held against
QUICK_START = "quickstart"  # name of the experiment that the README's first command runs


@dataclass(frozen=True)
class Board:
    """The content of a results folder.

    Attributes:
        records: lists of records by name, see :func:`read_records`.
        literature: ``literature.json``: the results of the original project and of papers.
        speed: ``benchmark.json``.
        serving: ``serving.json``.
        trials: the trials.
    """

    records: dict[str, list[Record]]
    literature: dict[str, Any]
    speed: dict[str, Any]
    serving: dict[str, Any]
    trials: list[Record] = field(default_factory=list)

    @property
    def all_records(self) -> list[Record]:
        """The records of all names."""
        return [record for same in self.records.values() for record in same]

    @classmethod
    def read(cls, folder: Path) -> Board:
        """Read a results folder.

        Raises:
            InputError: a file is missing or cannot be read.
        """
        names = ("literature", "benchmark", "serving")
        literature, speed, serving = (read_json_object(folder / f"{name}.json") for name in names)
        return cls(read_records(folder), literature, speed, serving, all_trials(folder))


def headline_record(board: Board) -> Record:
    """Return the record of the exported model, which the pictures show: the lowest seed of :data:`HEADLINE`.

    Raises:
        InputError: it is not published.
    """
    if HEADLINE not in board.records:
        raise InputError(f"no record of {HEADLINE}, which the pictures show (results add RUN_DIR --name {HEADLINE})")
    return board.records[HEADLINE][0]


def original_accuracy(literature: dict[str, Any]) -> tuple[int, int, float]:
    """Return the result of the original project.

    Its printed accuracy is the number of correct test digits divided by the size of all batches, although the last
    batch is smaller.

    Returns:
        The number of correct digits, the divisor behind the printed accuracy, and the test accuracy (0 to 1).
    """
    original = literature["upstream"]
    divisor = original["batches"] * original["batch_size"]
    correct = round(original["printed_accuracy_percent"] / 100 * divisor)
    return correct, divisor, correct / NUM_TEST
