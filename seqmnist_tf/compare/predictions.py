"""The predictions of a run on the test images: from its ``predictions.csv``, else from its ``model.keras``."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np

from ..config import NUM_CLASSES
from ..system import InputError, note
from ..train import PREDICTIONS_FILE, evaluate_run
from .outcomes import Outcome


@dataclass(frozen=True)
class Predictions:
    """What a final model predicts on the test images, in published order.

    Attributes:
        labels: int (n,), 0 to 9.
        classes: int (n,), 0 to 9.
    """

    labels: np.ndarray
    classes: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each image is classified correctly, bool (n,)."""
        return self.labels == self.classes


def read_predictions(outcome: Outcome, data_dir: str | None, *, allow_code: bool) -> Predictions:
    """Return the predictions of a run. Where it has no ``predictions.csv``, its model is evaluated; nothing is written.

    Args:
        outcome: the run.
        data_dir: folder of the data, for the evaluation.
        allow_code: run the code of the run's own layer.

    Raises:
        InputError: the predictions are not those that its summary counts, or its model cannot be read.
    """
    path = outcome.run.path / PREDICTIONS_FILE
    if path.is_file():
        made, source = _read_table(outcome), str(path)
    else:
        note(f"evaluating {outcome.run.path}, which has no {PREDICTIONS_FILE}")
        split, metrics = evaluate_run(outcome.run, data_dir, allow_code=allow_code)
        made, source = Predictions(split.labels, metrics.predictions), f"the model of {outcome.run.path}"
    right, total = int(made.right.sum()), len(made.labels)
    if (right, total) != (outcome.correct, outcome.total):
        raise InputError(
            f"{source} classifies {right:,} of {total:,} test images correctly, but summary.json says "
            f"{outcome.correct:,} of {outcome.total:,}"
        )
    return made


def _read_table(outcome: Outcome) -> Predictions:
    path = outcome.run.path / PREDICTIONS_FILE
    try:
        with path.open(encoding="ascii", newline="") as file:
            rows = [(int(row["index"]), int(row["label"]), int(row["prediction"])) for row in csv.DictReader(file)]
        table = np.array(rows, np.int64).reshape(-1, 3)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {type(error).__name__}: {error}") from None
    in_range = (table[:, 1:] >= 0).all() and (table[:, 1:] < NUM_CLASSES).all()
    if not np.array_equal(table[:, 0], np.arange(outcome.total)) or not in_range:
        raise InputError(
            f"cannot read {path}: it must have the images 0 to {outcome.total - 1:,} in order, classes 0 to 9"
        )
    return Predictions(table[:, 1], table[:, 2])
