"""The predictions of a run on the test images: from its ``predictions.csv``, else from its ``model.keras``."""

from __future__ import annotations

from ..system import InputError, note
from ..train import PREDICTIONS_FILE, Predictions, evaluate_run
from .outcomes import Outcome


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
        made, source = Predictions.from_csv(path, outcome.total), str(path)
    else:
        note(f"evaluating {outcome.run.path}, which has no {PREDICTIONS_FILE}")
        split, metrics = evaluate_run(outcome.run, data_dir, allow_code=allow_code)
        made, source = Predictions.of(split, metrics), f"the model of {outcome.run.path}"
    right, total = made.correct, len(made.labels)
    if (right, total) != (outcome.correct, outcome.total):
        raise InputError(
            f"{source} classifies {right:,} of {total:,} test images correctly, but summary.json says "
            f"{outcome.correct:,} of {outcome.total:,}"
        )
    return made
