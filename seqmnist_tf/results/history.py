"""Whether history, batch losses, predictions and summary of a run agree with each other and with its configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..config import NUM_TEST, Config, is_trial
from ..system import InputError
from ..train import LOSS_AGREES, MAX_FLIPS, PREDICTIONS_FILE, Predictions, summarize


def history_problems(config: Config, history: list[dict[str, Any]], losses: list[tuple[int, float]]) -> list[str]:
    """Return whether ``history.jsonl`` contradicts the configuration or the step and loss of each batch."""
    epochs, per_epoch = config.train.n_epochs, config.steps_per_epoch
    if [row["epoch"] for row in history] != list(range(1, epochs + 1)):
        return [f"history.jsonl must have epochs 1 to {epochs} (got {len(history)} rows)"]
    if [step for step, _ in losses] != list(range(1, epochs * per_epoch + 1)):
        return [f"steps.csv must have steps 1 to {epochs * per_epoch} (got {len(losses)} rows)"]
    if bad := [step for step, loss in losses if not 0 <= loss < math.inf]:
        return [f"the loss of step {bad[0]} in steps.csv is not a finite number of at least 0"]
    problems = []
    for epoch, row in enumerate(history, start=1):
        epoch_losses = [loss for _, loss in losses[(epoch - 1) * per_epoch : epoch * per_epoch]]
        problems += _row_problems(config, epoch, row, epoch_losses)
    return problems


def _row_problems(config: Config, epoch: int, row: dict[str, Any], losses: list[float]) -> list[str]:
    """Return whether an epoch's row contradicts the configuration or the losses of its batches."""
    problems = []
    scored, total = ("val", config.task.validation_size) if is_trial(config) else ("test", NUM_TEST)
    for key in ("train_loss", f"{scored}_loss", "seconds"):
        if isinstance(row[key], bool) or not 0 <= row[key] < math.inf:
            problems.append(f"{key} of epoch {epoch} must be a finite number of at least 0 (got {row[key]})")
    if row["train_loss"] != math.fsum(losses) / len(losses):
        problems.append(f"train_loss of epoch {epoch} is not the mean of its losses in steps.csv")
    for split, images in (("train", config.num_train), (scored, total)):
        correct = row[f"{split}_accuracy"] * images
        if abs(correct - round(correct)) > 1e-6 or not 0 <= correct <= images:
            problems.append(f"{split}_accuracy of epoch {epoch} is not a whole number of {images:,} images")
    if scored == "val" and (row["test_loss"], row["test_accuracy"]) != (None, None):
        problems.append(f"test_loss and test_accuracy of epoch {epoch} of a trial must be null")
    rate = _expected_learning_rate(config, epoch)
    # Keras computes it in float32, where the end of a long cosine schedule cancels.
    if not math.isclose(row["learning_rate"], rate, rel_tol=1e-4, abs_tol=1e-6 * config.optimizer.lr):
        problems.append(f"learning_rate of epoch {epoch} must be {rate:.4g} (got {row['learning_rate']:.4g})")
    return problems


def _expected_learning_rate(config: Config, epoch: int) -> float:
    """Return the learning rate of the first step of an epoch."""
    fraction = (epoch - 1) / config.train.n_epochs if config.optimizer.schedule == "cosine" else 0.0
    return config.optimizer.lr * (1 + math.cos(math.pi * fraction)) / 2


def summary_problems(
    config: Config, environment: dict[str, Any], summary: dict[str, Any], history: list[dict[str, Any]], experiment: str
) -> list[str]:
    """Return whether ``summary.json`` or ``environment.json`` contradicts the configuration or the history.

    Args:
        config: the run's configuration.
        environment, summary, history: the content of its files.
        experiment: its ``config_id``.
    """
    final = summary["final"]
    # The number of parameters of a layer that is not a stock one is known from its model alone.
    expected = summarize(history, config, "completed", experiment=experiment)
    if expected["num_params"] is None:
        expected["num_params"] = summary["num_params"]
    if not is_trial(config):
        # These are the results of model.keras on stock Keras.
        own = ("test_loss", "test_accuracy", "test_correct", "test_total")
        expected["final"] = {**expected["final"], **{key: final[key] for key in own}}
    problems = [
        f"{key} in summary.json does not match config.json and history.jsonl"
        for key in expected
        if summary[key] != expected[key]
    ]
    if environment["config_id"] != experiment:
        problems.append("config_id in environment.json does not match config.json")
    if environment.get("seed", config.train.seed) != config.train.seed:
        problems.append("seed in environment.json does not match config.json")
    return problems if is_trial(config) else problems + _final_problems(final, history[-1])


def _final_problems(final: dict[str, Any], last: dict[str, Any]) -> list[str]:
    """Return whether the results of ``model.keras`` do not follow from the last epoch of the history."""
    correct, logged = final["test_correct"], round(last["test_accuracy"] * NUM_TEST)
    problems = []
    if type(correct) is not int or final["test_total"] != NUM_TEST or correct / NUM_TEST != final["test_accuracy"]:
        problems.append(f"test_accuracy in summary.json is not test_correct / {NUM_TEST:,}")
    if abs(correct - logged) > MAX_FLIPS:
        problems.append(
            f"test_correct in summary.json does not match the last epoch in history.jsonl ({correct:,}, {logged:,})"
        )
    if not math.isclose(last["test_loss"], final["test_loss"], rel_tol=LOSS_AGREES, abs_tol=1e-4):
        problems.append("test_loss in summary.json does not match the last epoch in history.jsonl")
    return problems


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
        correct = Predictions.from_csv(path, NUM_TEST).correct
    except InputError as error:
        return [str(error)]
    if correct == test_correct:
        return []
    return [f"{PREDICTIONS_FILE} has {correct:,} correct predictions (summary.json says {test_correct:,})"]
