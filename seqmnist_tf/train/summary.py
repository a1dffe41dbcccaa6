"""What a run reached: its summary, its predictions, and whether logs, configuration and summary agree.

Neither TensorFlow nor Keras is imported.
"""

from __future__ import annotations

import csv
import functools
import io
import math
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import NUM_CLASSES, Config, config_id, num_params
from ..system import InputError
from .run_directory import RunDirectory, is_skipped

ESCAPED = 0.5  # the accuracy above which a run has left the plateau
STATUSES = ("completed", "diverged", "interrupted", "stopped", "failed")
MAX_FLIPS = 3  # digits between two logits so near that stock Keras and the kernel of the run decide differently
TABLE_HEAD = ["index", "label", "prediction", "probability"]
MAX_TABLE_BYTES = 1_000_000  # 10,000 rows have less than 200,000
LOSS_AGREES = 1e-3  # relative: stock Keras and the kernel of the run; the published records differ by less than 1e-4


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

    Args:
        history: the rows of ``history.jsonl``.
        config: the run's configuration.
        status: completed, diverged, interrupted, stopped or failed.
        parameters: number of parameters of the model; None computes it, for a stock layer.
        final: test results of the reloaded model, in place of the last row's.
        reason: why the run was stopped.
        experiment: the ``config_id``, where it was computed before.
        skipped: number of steps that were skipped; of a run with ``optimizer.nonfinite skip``.
    """
    # Not sum(), which from Python 3.12 on rounds otherwise: one run has one summary, to the digit.
    seconds = functools.reduce(operator.add, (row["seconds"] for row in history), 0)
    watched = "test_accuracy" if config.test.enabled else "val_accuracy"
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
        "escape_epoch": next((row["epoch"] for row in history if row.get(watched, 0) > ESCAPED), None),
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
    """Return where history, batch losses, configuration and summary of a run contradict each other, one sentence each.

    A completed or stopped run has a row for each epoch and a loss for each batch of them. One that diverged, was
    interrupted or killed, or is being trained can also have losses of the epoch after its last row. ``train_loss`` is
    the mean of its epoch's losses, ``final`` follows from the last row, and all else in the summary from history and
    configuration.

    Args:
        run: a run directory or a published record, perhaps a stranger's.
        epochs: look at the first so many epochs only, and not at the summary, as before a run is resumed after them.

    Raises:
        InputError: a file cannot be read.

    Example::

        print(log_problems(load_run("results/strong/seed0")))  # []
    """
    config, history, steps = run.config, run.history(), run.steps()
    summary = run.summary if epochs is None else None
    try:
        if epochs is not None:
            return _logs_problems(config, history[:epochs], steps[: epochs * config.steps_per_epoch], epochs, "ended")
        status = summary["status"] if summary else "interrupted"
        rows = config.train.n_epochs if status == "completed" else min(len(history), config.train.n_epochs)
        problems = _logs_problems(config, history, steps, rows, status)
        if summary and not problems:
            problems = _summary_problems(run, config, summary, history)
        return problems
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        return [f"its files are not in the format of a run directory ({type(error).__name__}: {error})"]


def _logs_problems(
    config: Config, history: list[dict[str, Any]], steps: list[tuple[int, float, float]], epochs: int, status: str
) -> list[str]:
    """Return where ``history.jsonl`` and ``steps.csv`` contradict the configuration or each other.

    ``epochs`` is the number of rows that there must be.
    """
    if [row["epoch"] for row in history] != list(range(1, epochs + 1)):
        return [f"history.jsonl must have epochs 1 to {epochs} (got {len(history)} rows)"]
    per_epoch = config.steps_per_epoch
    last = epochs * per_epoch
    may_have_more = status in ("diverged", "interrupted", "failed")
    most = last + per_epoch if may_have_more and epochs < config.train.n_epochs else last
    if [step for step, *_ in steps] != list(range(1, len(steps) + 1)) or not last <= len(steps) <= most:
        return [f"steps.csv must have steps 1 to {last} (got {len(steps)} rows)"]
    if bad := [s for s, loss, norm in steps[:last] if not (0 <= loss < math.inf or is_skipped(config, norm))]:
        return [f"the loss of step {bad[0]} in steps.csv is not a finite number of at least 0"]
    problems = []
    for epoch, row in enumerate(history, start=1):
        losses = [loss for _, loss, _ in steps[(epoch - 1) * per_epoch : epoch * per_epoch] if math.isfinite(loss)]
        problems += _row_problems(config, epoch, row, losses)
    return problems


def _row_problems(config: Config, epoch: int, row: dict[str, Any], losses: list[float]) -> list[str]:
    """Return where an epoch's row contradicts the configuration or the losses of its batches."""
    images = {
        "train": config.num_train,
        "test": config.num_test if config.test.enabled else 0,
        "val": config.task.validation_size,
    }
    numbers = [f"{split}_{key}" for split in images if images[split] for key in ("loss", "accuracy")]
    problems = [
        f"{key} of epoch {epoch} must be a finite number of at least 0 (got {row.get(key)!r})"
        for key in (*numbers, "learning_rate", "seconds")
        if isinstance(row.get(key), bool) or not isinstance(row.get(key), int | float) or not 0 <= row[key] < math.inf
    ]
    if problems:
        return problems
    if not math.isclose(row["train_loss"], math.fsum(losses) / len(losses), rel_tol=1e-12):
        problems.append(f"train_loss of epoch {epoch} is not the mean of its losses in steps.csv")
    for split, total in images.items():
        if not total:
            if row.get(f"{split}_loss") is not None or row.get(f"{split}_accuracy") is not None:
                problems.append(f"{split}_loss and {split}_accuracy of epoch {epoch} must be null, without such images")
            continue
        correct = row[f"{split}_accuracy"] * total
        if abs(correct - round(correct)) > 1e-6 or correct > total:
            problems.append(f"{split}_accuracy of epoch {epoch} is not a whole number of {total:,} images")
    opt, step = config.optimizer, (epoch - 1) * config.steps_per_epoch
    if step < opt.warmup_steps:
        rate = opt.lr * (step + 1) / opt.warmup_steps
    else:
        fraction = (step - opt.warmup_steps) / (config.train.n_epochs * config.steps_per_epoch - opt.warmup_steps)
        rate = opt.lr * (1 + math.cos(math.pi * fraction)) / 2 if opt.schedule == "cosine" else opt.lr
    # Keras computes it in float32, where the end of a long cosine schedule cancels.
    if not math.isclose(row["learning_rate"], rate, rel_tol=1e-4, abs_tol=1e-6 * opt.lr):
        problems.append(f"learning_rate of epoch {epoch} must be {rate:.4g} (got {row['learning_rate']:.4g})")
    return problems


def _summary_problems(
    run: RunDirectory, config: Config, summary: dict[str, Any], history: list[dict[str, Any]]
) -> list[str]:
    """Return where ``summary.json`` contradicts the configuration or the history, whose rows are in order."""
    status, final = summary["status"], summary["final"]
    if status not in STATUSES:
        return [f"status in summary.json must be {', '.join(STATUSES[:-1])} or {STATUSES[-1]} (got {status!r})"]
    reason, skipped = summary.get("reason"), run.skipped_steps()
    expected = summarize(history, config, status, reason=reason, experiment=run.config_id, skipped=skipped)
    if expected["num_params"] is None:  # of a layer that is not a stock one: only its model knows
        expected["num_params"] = summary["num_params"]
    tested = expected["final"] is not None and config.test.enabled
    if tested:  # these are the results of model.keras on stock Keras
        own = ("test_loss", "test_accuracy", "test_correct", "test_total")
        expected["final"] |= {key: final[key] for key in own}
    seconds = ("seconds_total", "seconds_per_epoch")  # their last digit depends on the order of the sum
    problems = [
        f"{key} in summary.json does not match config.json and history.jsonl"
        for key, value in expected.items()
        if summary[key] != value
        and not (key in seconds and value is not None and math.isclose(summary[key], value, abs_tol=0.0015))
    ]
    return problems + _final_problems(config, final, history[-1]) if tested else problems


def _final_problems(config: Config, final: dict[str, Any], last: dict[str, Any]) -> list[str]:
    """Return where the results of ``model.keras`` do not follow from the last row of the history."""
    correct, total = final["test_correct"], config.num_test
    logged = round(last["test_accuracy"] * total)
    problems = []
    if type(correct) is not int or final["test_total"] != total or correct / total != final["test_accuracy"]:
        problems.append(f"test_accuracy in summary.json is not test_correct / {total:,}")
    if abs(correct - logged) > MAX_FLIPS or not 0 <= correct <= total:
        problems.append(
            f"test_correct in summary.json does not match the last epoch in history.jsonl ({correct:,}, {logged:,})"
        )
    if not math.isclose(last["test_loss"], final["test_loss"], rel_tol=LOSS_AGREES, abs_tol=1e-4):
        problems.append("test_loss in summary.json does not match the last epoch in history.jsonl")
    return problems


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
            columns = list(zip(*rows[1:], strict=True))
            labels, classes = (np.array([int(text) for text in column], np.int64) for column in columns[1:3])
            probabilities = np.array([float(text) for text in columns[3]])
            if not all(((column >= 0) & (column < NUM_CLASSES)).all() for column in (labels, classes)):
                raise ValueError(f"labels and predictions must be 0 to {NUM_CLASSES - 1}")
            # The highest of ten probabilities is at least a tenth; the table has six digits.
            if not ((probabilities > 1 / NUM_CLASSES - 1e-6) & (probabilities <= 1)).all():
                raise ValueError(f"probabilities must be {1 / NUM_CLASSES} to 1")
        except (OSError, ValueError, OverflowError, IndexError, csv.Error) as error:
            raise InputError(f"cannot read {path}: {error}") from None
        return cls(labels, classes, probabilities)
