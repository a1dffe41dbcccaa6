"""The checks of runs and records. Each function returns a list of problems, one line each; empty if all is well.

:func:`run_problems` checks a run, :func:`model_problems` evaluates its model, :func:`folder_problems` checks all
records.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from ..config import NUM_TEST, Config, config_id
from ..system import InputError
from ..train import RunDirectory, evaluate_run, summarize
from .manifest import manifest_problems
from .records import Record, read_records

LOSS_TOLERANCE = 1e-5  # relative: another machine adds the float32 losses in another order


def run_problems(run: RunDirectory, losses: bytes) -> list[str]:
    """Return the problems that keep a run from being published; its model is not evaluated.

    Args:
        run: a run directory or the folder of a record.
        losses: the content of its ``steps.csv``.
    """
    try:
        config, environment, summary, history = run.config, run.environment, run.summary or {}, run.history()
        if config.task.permutation.startswith("file:"):
            return ["its pixel order must be reproducible (task.permutation seed:N, not file:PATH)"]
        return [
            *_origin_problems(config, environment, summary),
            *_history_problems(config, history, losses),
            *_summary_problems(config, environment, summary, history),
        ]
    except InputError as error:
        return [str(error)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return [f"its files are not in the format of a run directory ({type(error).__name__}: {error})"]


def model_problems(run: RunDirectory) -> list[str]:
    """Evaluate ``model.keras`` on stock Keras and return how the results contradict ``summary.json``.

    Raises:
        InputError: the run has no model, or the model cannot be read.
    """
    (_, metrics), final = evaluate_run(run), (run.summary or {})["final"]
    problems = []
    if metrics.correct != final["test_correct"]:
        problems.append(
            f"model.keras classifies {metrics.correct:,} test digits correctly (summary.json says "
            f"{final['test_correct']:,})"
        )
    if not math.isclose(metrics.loss, final["test_loss"], rel_tol=LOSS_TOLERANCE):
        problems.append(f"model.keras has test loss {metrics.loss:.6f} (summary.json says {final['test_loss']:.6f})")
    return problems


def folder_problems(folder: Path, *, records_only: bool = False) -> list[str]:
    """Return where a results folder contradicts its manifest, and where records contradict themselves.

    Args:
        folder: the results folder.
        records_only: ignore the benchmarks, the literature and the pictures.

    Raises:
        InputError: the manifest or a record cannot be read.
    """
    if problems := manifest_problems(folder, records_only=records_only):
        return problems
    return [
        problem
        for name, records in read_records(folder).items()
        for problem in (
            *(f"{record.run.path}: {problem}" for record in records for problem in record_problems(record)),
            *(f"{folder / name}: {problem}" for problem in experiment_problems(records)),
        )
    ]


def record_problems(record: Record) -> list[str]:
    """Return how the files of a record contradict each other."""
    try:
        losses = record.step_losses()
    except InputError as error:
        return [str(error)]
    problems = run_problems(record.run, losses)
    if record.run.path.name != f"seed{record.seed}":
        problems.append(f"its folder must be seed{record.seed}, the seed in config.json")
    return problems


def experiment_problems(records: list[Record]) -> list[str]:
    """Return whether records of one name have different configurations."""
    experiments = sorted({config_id(record.config) for record in records})
    return [f"its seeds have different configurations: {', '.join(experiments)}"] if len(experiments) > 1 else []


def _origin_problems(config: Config, environment: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """Return whether the run is complete, tested on all digits, and trained from a commit."""
    problems = []
    if summary.get("status") != "completed":
        problems.append(f"its status must be completed (got {summary.get('status')})")
    if not config.test.enabled or config.num_test != NUM_TEST:
        problems.append(f"it must be tested on all {NUM_TEST:,} images (test.enabled true, task.limit_test 0)")
    for part in (environment, *environment["resumed"]):
        git = part["git"]
        if not git["commit"] or git["dirty"] is not False:
            problems.append(
                "it must be trained from a commit, without changes in the working tree (got commit "
                f"{git['commit']}, dirty {git['dirty']})"
            )
    return problems


def _history_problems(config: Config, history: list[dict[str, Any]], losses: bytes) -> list[str]:
    """Return whether ``history.jsonl`` contradicts the configuration or ``steps.csv``."""
    epochs, per_epoch = config.train.n_epochs, config.steps_per_epoch
    if [row["epoch"] for row in history] != list(range(1, epochs + 1)):
        return [f"history.jsonl must have epochs 1 to {epochs} (got {len(history)} rows)"]
    steps = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(io.StringIO(losses.decode("ascii")))]
    if [step for step, _ in steps] != list(range(1, epochs * per_epoch + 1)):
        return [f"steps.csv must have steps 1 to {epochs * per_epoch} (got {len(steps)} rows)"]
    problems = []
    for epoch, row in enumerate(history, start=1):
        epoch_losses = [loss for _, loss in steps[(epoch - 1) * per_epoch : epoch * per_epoch]]
        if row["train_loss"] != math.fsum(epoch_losses) / per_epoch:
            problems.append(f"train_loss of epoch {epoch} is not the mean of its losses in steps.csv")
        for split, total in (("train", config.num_train), ("test", NUM_TEST)):
            correct = row[f"{split}_accuracy"] * total
            if abs(correct - round(correct)) > 1e-6 or not 0 <= correct <= total:
                problems.append(f"{split}_accuracy of epoch {epoch} is not a whole number of {total:,} images")
        rate = _expected_learning_rate(config, epoch)
        if not math.isclose(row["learning_rate"], rate, rel_tol=1e-4):
            problems.append(f"learning_rate of epoch {epoch} must be {rate:.4g} (got {row['learning_rate']:.4g})")
    return problems


def _expected_learning_rate(config: Config, epoch: int) -> float:
    """Return the learning rate of the first step of an epoch."""
    fraction = (epoch - 1) / config.train.n_epochs if config.optimizer.schedule == "cosine" else 0.0
    return config.optimizer.lr * (1 + math.cos(math.pi * fraction)) / 2


def _summary_problems(
    config: Config, environment: dict[str, Any], summary: dict[str, Any], history: list[dict[str, Any]]
) -> list[str]:
    """Return whether ``summary.json`` or ``environment.json`` contradicts the configuration or the history."""
    experiment, final = config_id(config), summary["final"]
    expected = summarize(history, config, "completed", experiment=experiment)
    # These are the results of model.keras on stock Keras; model_problems() checks them.
    own = ("test_loss", "test_accuracy", "test_correct", "test_total")
    expected["final"] = {**expected["final"], **{key: final[key] for key in own}}
    problems = [
        f"{key} in summary.json does not match config.json and history.jsonl"
        for key in expected
        if summary[key] != expected[key]
    ]
    if environment["config_id"] != experiment:
        problems.append("config_id in environment.json does not match config.json")
    if final["test_total"] != NUM_TEST or final["test_correct"] / NUM_TEST != final["test_accuracy"]:
        problems.append(f"test_accuracy in summary.json is not test_correct / {NUM_TEST:,}")
    if not math.isclose(history[-1]["test_loss"], final["test_loss"], rel_tol=0.01, abs_tol=1e-4):
        problems.append("test_loss in summary.json does not match the last epoch in history.jsonl")
    return problems
