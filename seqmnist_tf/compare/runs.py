"""Completed runs that exist: a run directory, a folder of runs, a published record."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..system import InputError, note
from ..train import PREDICTIONS_FILE, Predictions, RunDirectory, load_run

FAILED_BELOW = 0.2  # test accuracy at the end
SKIPPED_OF_AN_EPOCH = 0.01  # share of an epoch's steps whose gradients were not finite
FELL_BY, FELL_ABOVE = 0.09, 0.5  # test accuracy that is lost from one epoch to a later one, once it was above a half


@dataclass(frozen=True)
class CompletedRun:
    """A run that has ended, its files read once. Of a trial, the test results cannot be asked."""

    directory: RunDirectory
    config: Config
    environment: dict[str, Any] = field(repr=False)
    summary: dict[str, Any] = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)

    @cached_property
    def config_id(self) -> str:
        return self.directory.config_id

    @cached_property
    def skipped_steps(self) -> list[int]:
        return self.directory.skipped_steps()

    @property
    def seed(self) -> int:
        return self.config.train.seed

    @property
    def num_params(self) -> int:
        return self.summary["num_params"]

    @property
    def correct(self) -> int:
        """Number of test digits that the final model classifies correctly."""
        return self.summary["final"]["test_correct"]

    @property
    def total(self) -> int:
        return self.summary["final"]["test_total"]

    @property
    def accuracy(self) -> float:
        """Test accuracy of the final model, 0 to 1."""
        return self.correct / self.total

    @property
    def failed(self) -> bool:
        """Whether its training failed: it ends below 20 %, or skipped more than 1 % of an epoch's steps."""
        per_epoch = self.config.steps_per_epoch
        skipped = Counter((step - 1) // per_epoch for step in self.skipped_steps)
        most = max(skipped.values(), default=0)
        return self.accuracy < FAILED_BELOW or most > SKIPPED_OF_AN_EPOCH * per_epoch

    @property
    def fell(self) -> bool:
        """Whether the test accuracy once lost at least 9 points, after it had exceeded 50 %."""
        highest = 0.0
        for accuracy in self.curve:
            if highest > FELL_ABOVE and round(highest - accuracy, 6) >= FELL_BY:
                return True
            highest = max(highest, accuracy)
        return False

    @property
    def curve(self) -> list[float]:
        """Test accuracy after each epoch, 0 to 1."""
        return [row["test_accuracy"] for row in self.history]

    @cached_property
    def gradient_norms(self) -> list[float]:
        """Median over each epoch's batches of the gradients' norm, before clipping; empty where it was not logged."""
        norms = [norm for _, _, norm in self.directory.steps()]
        return [float(np.nanmedian(of)) for of in np.array_split(norms, len(self.history))] if any(norms) else []

    @property
    def kernels(self) -> set[str]:
        """What computed its layer, from its start on and after each resumption."""
        return {str(part.get("kernel")) for part in (self.environment, *self.environment.get("resumed", []))}

    def predictions(self, data_dir: str | None = None, *, allow_code: bool = False) -> Predictions:
        """Return the predictions on the test images; without ``predictions.csv`` the model is evaluated.

        ``data_dir`` is the folder of the data; InputError is raised where the summary counts other predictions.
        """
        path = self.directory.path / PREDICTIONS_FILE
        if path.is_file():
            made = Predictions.from_csv(path, self.total)
        else:
            note(f"evaluating {self.directory.path}, which has no {PREDICTIONS_FILE}")
            from ..train import evaluate_run  # late: it needs TensorFlow

            split, metrics = evaluate_run(self.directory, data_dir, allow_code=allow_code)
            made = Predictions(split.labels, metrics.predictions, metrics.probabilities)
        if made.correct != self.correct:
            raise InputError(f"{path}: {made.correct:,} predictions are correct (summary.json: {self.correct:,})")
        return made


def read_run(run: RunDirectory) -> CompletedRun:
    """Read a run that has ended."""
    return CompletedRun(run, run.config, run.environment, run.summary or {}, run.history())


def read_given_runs(folder: Path, *, allow_code: bool) -> tuple[dict[int, CompletedRun], tuple[int, ...]]:
    """Return the completed runs of an arm by seed, and the seeds of those that diverged.

    ``folder`` is a run directory, or holds those of one experiment; else InputError is raised.
    """
    files = [folder / "config.json"] if (folder / "config.json").is_file() else sorted(folder.glob("*/config.json"))
    by_seed: dict[int, CompletedRun] = {}
    for file in files:
        run = load_run(file.parent)
        run.require_code_allowed(allow_code)
        one = read_run(run)
        if (status := one.summary.get("status")) not in ("completed", "diverged"):
            raise InputError(f"{run.path} is {status or 'not finished'} (finish it with --resume)")
        if other := by_seed.get(one.seed):
            raise InputError(f"{folder} has two runs of seed {one.seed}: {other.directory.path} and {run.path}")
        by_seed[one.seed] = one
    completed = {seed: one for seed, one in sorted(by_seed.items()) if one.summary["status"] == "completed"}
    if not completed:
        raise InputError(f"no completed run in {folder}")
    if len({one.config_id for one in by_seed.values()}) > 1:
        ids = ", ".join(f"{one.directory.path.name} {one.config_id}" for one in by_seed.values())
        raise InputError(f"{folder} has runs of different configurations: {ids}")
    return completed, tuple(sorted(set(by_seed) - set(completed)))


def name_of_folder(folder: Path) -> str:
    """Return the name of an arm: its folder's; ``strong-seed0`` for ``results/strong/seed0``."""
    path = folder.resolve()
    if re.fullmatch(r"seed\d+", path.name) and (path / "config.json").is_file():
        return f"{path.parent.name}-{path.name}"
    return path.name
