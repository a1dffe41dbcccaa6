"""``predictions.csv``: the prediction of a run's final model for each test image."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import NUM_CLASSES
from ..system import InputError

if TYPE_CHECKING:
    from ..data import Split
    from .metrics import Metrics

TABLE_HEAD = ["index", "label", "prediction", "probability"]
MAX_TABLE_BYTES = 1_000_000  # 10,000 rows have less than 200,000


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for images, in published order.

    Attributes:
        labels: int (n,), 0 to 9.
        classes: int (n,), 0 to 9: the class with the highest probability.
        probabilities: float (n,), of that class, 0.1 to 1.

    Example::

        table = Predictions.from_csv(Path("results/strong/seed0/predictions.csv"), 10_000)
        print(table.right.sum())
    """

    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each image is classified correctly, bool (n,)."""
        return self.labels == self.classes

    @property
    def correct(self) -> int:
        """Number of correct classes."""
        return int(self.right.sum())

    @classmethod
    def of(cls, split: Split, metrics: Metrics) -> Predictions:
        """Return the predictions that the metrics of a split hold."""
        return cls(split.labels, metrics.predictions, metrics.probabilities)

    def to_csv(self) -> bytes:
        """Return ``predictions.csv``: index, label, prediction and its probability; one row an image."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(TABLE_HEAD)
        rows = zip(self.labels.tolist(), self.classes.tolist(), self.probabilities.tolist(), strict=True)
        writer.writerows((index, label, class_id, f"{p:.6g}") for index, (label, class_id, p) in enumerate(rows))
        return text.getvalue().encode("ascii")

    @classmethod
    def from_csv(cls, path: Path, total: int) -> Predictions:
        """Return the content of a ``predictions.csv``, which may be a stranger's.

        Args:
            path: the file.
            total: number of images that it must have.

        Raises:
            InputError: it cannot be read, or is no table of so many images.
        """
        try:
            if path.stat().st_size > MAX_TABLE_BYTES:
                raise ValueError(f"it has more than {MAX_TABLE_BYTES:,} bytes")
            rows = list(csv.reader(path.read_text(encoding="ascii").splitlines()))
            if rows[:1] != [TABLE_HEAD]:
                raise ValueError(f"its first line must be {','.join(TABLE_HEAD)}")
            if [row[0] for row in rows[1:]] != [str(index) for index in range(total)]:
                raise ValueError(f"it must have a row for each of the images 0 to {total - 1:,}, in their order")
            if any(len(row) != len(TABLE_HEAD) for row in rows):
                raise ValueError(f"each row must have {len(TABLE_HEAD)} fields")
            columns = np.array(rows[1:]).T
            labels, classes = columns[1].astype(np.int64), columns[2].astype(np.int64)
            probabilities = columns[3].astype(np.float64)
            if not all(((column >= 0) & (column < NUM_CLASSES)).all() for column in (labels, classes)):
                raise ValueError(f"labels and predictions must be 0 to {NUM_CLASSES - 1}")
            # The highest of ten probabilities is at least a tenth; the table has six digits.
            if not ((probabilities > 1 / NUM_CLASSES - 1e-6) & (probabilities <= 1)).all():
                raise ValueError(f"probabilities must be {1 / NUM_CLASSES} to 1")
        except (OSError, ValueError, OverflowError, IndexError, csv.Error) as error:
            raise InputError(f"cannot read {path}: {error}") from None
        return cls(labels, classes, probabilities)
