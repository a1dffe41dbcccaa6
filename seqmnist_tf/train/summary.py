"""What a run reached: its summary, its predictions, and whether its logs agree.

Neither TensorFlow nor Keras is imported.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config, config_id, num_params
from ..system import InputError, reading
from .run_directory import RunDirectory

ESCAPED = 0.5  # the accuracy above which a run has left the plateau
MAX_FLIPS = 3  # digits whose two highest logits are so near that stock Keras and the run's kernel choose differently
TABLE_HEAD = "index,label,prediction,probability\n"


def summarize(
    history: list[dict[str, Any]],
    config: Config,
    status: str,
    *,
    parameters: int | None = None,
    final: dict[str, Any] | None = None,
    reason: str | None = None,
    experiment: str | None = None,
    skipped: int = 0,
) -> dict[str, Any]:
    """Return the content of ``summary.json``.

    ``final`` of the result is the last epoch of a completed run, else null. ``best`` is the epoch with the highest
    validation accuracy (the lowest loss among equal ones), null where nothing is held out. ``escape_epoch`` is the
    first epoch whose accuracy on the test set (without it: on the validation split) exceeds 0.5.

    The argument ``final`` holds the test results of the reloaded model, which replace the last row's. ``experiment`` is
    the ``config_id`` and ``parameters`` their number, where known.
    """
    # Not sum(), which from Python 3.12 on rounds otherwise: one run has one summary, to the digit.
    seconds = functools.reduce(operator.add, (row["seconds"] for row in history), 0)
    watched = "test_accuracy" if config.test.enabled else "val_accuracy"
    escaped = [row["epoch"] for row in history if row.get(watched, 0) > ESCAPED]
    results = [_result(row, config) for row in history]
    best = None
    if config.task.validation_size:
        best = max(results, key=lambda result: (result["val_accuracy"], -result["val_loss"]), default=None)
    return {
        "status": status,
        **({"reason": reason} if reason else {}),
        "config_id": experiment or config_id(config),
        "seed": config.train.seed,
        "num_params": num_params(config) if parameters is None else parameters,
        "epochs": len(history),
        **({"skipped_steps": skipped} if config.optimizer.nonfinite == "skip" else {}),
        "seconds_total": round(seconds, 3),
        "seconds_per_epoch": round(seconds / len(history), 3) if history else None,
        "escape_epoch": escaped[0] if escaped else None,
        "final": {**results[-1], **(final or {})} if status == "completed" else None,
        "best": best,
    }


def _result(row: dict[str, Any], config: Config) -> dict[str, Any]:
    """Return an epoch's result in the form of ``final`` and ``best``."""
    total = config.num_test if config.test.enabled else None
    result = {
        "epoch": row["epoch"],
        "test_loss": row["test_loss"],
        "test_accuracy": row["test_accuracy"],
        "test_correct": None if total is None else round(row["test_accuracy"] * total),
        "test_total": total,
    }
    return result | {key: row[key] for key in ("val_loss", "val_accuracy") if key in row}


def log_problems(run: RunDirectory, *, epochs: int | None = None) -> list[str]:
    """Return the contradictions between a run's history, batch losses, configuration and summary.

    Three checks: every epoch has a row and every batch a loss; ``train_loss`` is the mean of its epoch's losses; the
    summary follows from history and configuration. With ``epochs``, only that many first epochs are checked and not the
    summary: the run will be resumed after them.
    """
    config, history, steps = run.config, run.history(), run.steps()
    per_epoch = config.steps_per_epoch
    summary = run.summary if epochs is None else None
    if epochs is not None:
        history, steps = history[:epochs], steps[: epochs * per_epoch]
    else:
        epochs = config.train.n_epochs if summary and summary["status"] == "completed" else len(history)
    if [row["epoch"] for row in history] != list(range(1, epochs + 1)) or not epochs <= config.train.n_epochs:
        return [f"history.jsonl must have epochs 1 to {epochs} (got {len(history)} rows)"]
    # A run that diverged or was interrupted has losses of the epoch after its last row.
    more = 0 if summary and summary["status"] in ("completed", "stopped") else per_epoch
    in_order = [step for step, *_ in steps] == list(range(1, len(steps) + 1))
    if not in_order or not 0 <= len(steps) - epochs * per_epoch <= more:
        return [f"steps.csv must have steps 1 to {epochs * per_epoch} (got {len(steps)} rows)"]
    problems = []
    for row in history:
        losses = [loss for _, loss, _ in steps[(row["epoch"] - 1) * per_epoch : row["epoch"] * per_epoch]]
        finite = [loss for loss in losses if math.isfinite(loss)]  # skipped steps may have others
        if not finite or not math.isclose(row["train_loss"], math.fsum(finite) / len(finite), rel_tol=1e-12):
            problems.append(f"train_loss of epoch {row['epoch']} is not the mean of its losses in steps.csv")
    return problems + (_summary_problems(run, config, summary, history) if summary else [])


def _summary_problems(
    run: RunDirectory, config: Config, summary: dict[str, Any], history: list[dict[str, Any]]
) -> list[str]:
    """Return what in ``summary.json`` does not follow from the configuration and the history."""
    expected = summarize(
        history,
        config,
        summary["status"],
        parameters=num_params(config) or summary["num_params"],  # only its model knows those of a custom layer
        reason=summary.get("reason"),
        experiment=run.config_id,
        skipped=len(run.skipped_steps()),
    )
    final, last = summary["final"], expected["final"]
    if last and final and config.test.enabled:  # the results of model.keras on stock Keras
        near = abs(final["test_correct"] - last["test_correct"]) <= MAX_FLIPS
        near &= losses_agree(final["test_loss"], last["test_loss"])
        if near and final["test_accuracy"] == final["test_correct"] / config.num_test:
            last |= {key: final[key] for key in ("test_loss", "test_accuracy", "test_correct")}
    return [
        f"{key} in summary.json does not match config.json and history.jsonl"
        for key, value in expected.items()
        if summary[key] != value and not (key.startswith("seconds") and value and abs(summary[key] - value) < 0.0015)
    ]


def losses_agree(loss: float, other: float) -> bool:
    """Return whether two losses of one model differ no more than rounding in two implementations explains.

    On stock Keras and on their kernel, the published models' losses differ by less than 1e-4, relative to the loss.
    """
    return math.isclose(loss, other, rel_tol=1e-3, abs_tol=1e-4)


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for images, in published order.

    Attributes:
        labels: int (n,), 0 to 9.
        classes: int (n,), 0 to 9: the class with the highest probability.
        probabilities: float (n,), of that class, 0.1 to 1.
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

    def to_csv(self) -> bytes:
        """Return ``predictions.csv``: index, label, prediction and its probability; one row an image."""
        rows = zip(self.labels.tolist(), self.classes.tolist(), self.probabilities.tolist(), strict=True)
        lines = [f"{index},{label},{class_id},{p:.6g}\n" for index, (label, class_id, p) in enumerate(rows)]
        return "".join([TABLE_HEAD, *lines]).encode("ascii")

    @classmethod
    def from_csv(cls, path: Path, total: int) -> Predictions:
        """Return the content of a ``predictions.csv`` of ``total`` images; InputError where it is no such table."""
        with reading(path):
            table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        digits = table[:, 1:3]
        if table.shape != (total, 4) or (table[:, 0] != np.arange(total)).any() or not np.isin(digits, range(10)).all():
            raise InputError(f"{path} must have {TABLE_HEAD.strip()} of the images 0 to {total - 1:,}")
        _, labels, classes, probabilities = table.T
        return cls(labels.astype(np.int64), classes.astype(np.int64), probabilities.copy())
