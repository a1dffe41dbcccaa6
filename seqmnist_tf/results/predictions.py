"""``predictions.csv`` of a record: reading it, and holding it against the summary."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import NUM_CLASSES, NUM_TEST
from ..system import InputError
from ..train import PREDICTIONS_FILE

TABLE_HEAD = ["index", "label", "prediction", "probability"]
MAX_TABLE_BYTES = 1_000_000  # 10,000 rows have less than 200,000


@dataclass(frozen=True)
class PredictionTable:
    """What a model made of the test images, in published order.

    Attributes:
        labels: int64 (10000,), 0 to 9.
        classes: int64 (10000,), 0 to 9: the class with the highest probability.
        probabilities: float64 (10000,), of that class, 0.1 to 1.
    """

    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray

    @property
    def correct(self) -> int:
        """Number of correct classes."""
        return int((self.labels == self.classes).sum())


def read_table(path: Path) -> PredictionTable:
    """Return the content of ``predictions.csv``.

    Raises:
        InputError: it cannot be read, or is no table of all test images.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise ValueError(f"it has more than {MAX_TABLE_BYTES:,} bytes")
        rows = list(csv.reader(path.read_text(encoding="ascii").splitlines()))
        if rows[:1] != [TABLE_HEAD]:
            raise ValueError(f"its first line must be {','.join(TABLE_HEAD)}")
        if [row[0] for row in rows[1:]] != [str(index) for index in range(NUM_TEST)]:
            raise ValueError(f"it must have a row for each of the images 0 to {NUM_TEST - 1:,}, in their order")
        columns = zip(*rows[1:], strict=True)
        _, labels, classes = (np.array(next(columns)).astype(np.int64) for _ in range(3))
        probabilities = np.array(next(columns)).astype(np.float64)
        if not all(((column >= 0) & (column < NUM_CLASSES)).all() for column in (labels, classes)):
            raise ValueError(f"labels and predictions must be 0 to {NUM_CLASSES - 1}")
        # The highest of ten probabilities is at least a tenth; the table has six digits.
        if not ((probabilities > 1 / NUM_CLASSES - 1e-6) & (probabilities <= 1)).all():
            raise ValueError(f"probabilities must be {1 / NUM_CLASSES} to 1")
    except (OSError, ValueError, IndexError, csv.Error, StopIteration) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    return PredictionTable(labels, classes, probabilities)


def prediction_problems(folder: Path, test_correct: int) -> list[str]:
    """Return whether ``predictions.csv`` contradicts ``summary.json``; a run of version 0.1.0 lacks the file.

    Args:
        folder: of the record.
        test_correct: as in the summary.
    """
    path = folder / PREDICTIONS_FILE
    if not path.exists():
        return []
    try:
        correct = read_table(path).correct
    except InputError as error:
        return [str(error)]
    if correct == test_correct:
        return []
    return [f"{PREDICTIONS_FILE} has {correct:,} correct predictions (summary.json says {test_correct:,})"]
