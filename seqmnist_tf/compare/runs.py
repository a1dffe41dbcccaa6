"""Completed runs that exist: a run directory, a folder of runs, a published record. Each is checked as it is read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import train
from ..config import Config, layer_file
from ..system import InputError, note
from ..train import PREDICTIONS_FILE, Predictions, RunDirectory, load_run, log_problems

FAILED_BELOW = 0.2  # test accuracy at the end
SKIPPED_OF_AN_EPOCH = 0.01  # share of an epoch's steps whose gradients were not finite


@dataclass(frozen=True)
class CompletedRun:
    """A run that has ended, its files read once. Of a trial, the test results cannot be asked.

    Attributes:
        run: its directory, or the folder of its record.
        config: its configuration.
        environment, summary: the content of its JSON files.
        history: one row per epoch.
    """

    run: RunDirectory
    config: Config
    environment: dict[str, Any] = field(repr=False)
    summary: dict[str, Any] = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)

    @cached_property
    def config_id(self) -> str:
        """The id of its experiment."""
        return self.run.config_id

    @property
    def seed(self) -> int:
        """``train.seed``."""
        return self.config.train.seed

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        return self.summary["num_params"]

    @property
    def correct(self) -> int:
        """Number of test digits that the final model classifies correctly."""
        return self.summary["final"]["test_correct"]

    @property
    def total(self) -> int:
        """Number of test digits."""
        return self.summary["final"]["test_total"]

    @property
    def accuracy(self) -> float:
        """Test accuracy of the final model, 0 to 1."""
        return self.correct / self.total

    @property
    def failed(self) -> bool:
        """Whether its training failed: it ends below 20 %, or skipped more than 1 % of an epoch's steps."""
        skipped = self.summary.get("skipped_steps", 0)
        return self.accuracy < FAILED_BELOW or skipped > SKIPPED_OF_AN_EPOCH * self.config.steps_per_epoch

    @property
    def curve(self) -> list[float]:
        """Test accuracy after each epoch, 0 to 1."""
        return [row["test_accuracy"] for row in self.history]

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The environment of its start and of each resumed part."""
        resumed = self.environment.get("resumed")
        return [self.environment, *(resumed if isinstance(resumed, list) else [])]

    @property
    def kernels(self) -> set[str]:
        """The kernels that computed it: several where it was resumed on another."""
        return {str(part.get("kernel")) for part in self.parts}

    @property
    def machines(self) -> set[str]:
        """Processors, each with its threads, and with a device that is no CPU."""
        return {_machine(part) for part in self.parts}

    @property
    def commits(self) -> set[str]:
        """The commits of the code that trained it, ``unknown`` outside of a clone; of other code its hash, too."""
        commits = set()
        for part in self.parts:
            git = part.get("git") or {}
            sources = f" (sources {str(part['sources'])[:12]})" if part.get("sources") else ""
            changes = " with uncommitted changes" * bool(git.get("dirty"))
            commits.add(
                f"{git.get('commit') or 'unknown'}{changes}{sources * (bool(changes) or not git.get('commit'))}"
            )
        return commits

    @cached_property
    def layer_code(self) -> str | None:
        """The SHA-256 of the file or module of a layer of its own, with its imports; None of a module in older runs."""
        file, recorded = self.run.layer_file, self.environment.get("layer_code")
        if file and layer_file(self.config):
            return hashlib.sha256(file.content).hexdigest()
        return recorded if isinstance(recorded, str) else None

    def predictions(self, data_dir: str | None = None, *, allow_code: bool = False) -> Predictions:
        """Return the predictions on the test images. Without ``predictions.csv`` the model is evaluated.

        Args:
            data_dir: folder of the data, for the evaluation.
            allow_code: run the code of the run's own layer.

        Raises:
            InputError: the predictions are not those that the summary counts, or the model cannot be read.
        """
        path = self.run.path / PREDICTIONS_FILE
        if path.is_file():
            made, source = Predictions.from_csv(path, self.total), str(path)
        else:
            note(f"evaluating {self.run.path}, which has no {PREDICTIONS_FILE}")
            # By the room's door, which imports TensorFlow now: reading runs does not wait for it.
            split, metrics = train.evaluate_run(self.run, data_dir, allow_code=allow_code)
            made = Predictions(split.labels, metrics.predictions, metrics.probabilities)
            source = f"the model of {self.run.path}"
        right, total = made.correct, len(made.labels)
        if (right, total) != (self.correct, self.total):
            raise InputError(
                f"{source} classifies {right:,} of {total:,} test images correctly, but summary.json says "
                f"{self.correct:,} of {self.total:,}"
            )
        return made


def count_of(number: int, noun: str) -> str:
    """Return ``1 seed``, ``2 seeds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _machine(part: Mapping[str, Any]) -> str:
    device, threads = part.get("device", "CPU"), part.get("threads")
    words = [str(device)] * (device != "CPU")
    words += [count_of(threads, "thread")] if isinstance(threads, int) else []
    processor = (part.get("machine") or {}).get("processor") or "unknown"
    return f"{processor}{' with ' * bool(words)}{' and '.join(words)}"


def read_completed(run: RunDirectory, *, or_diverged: bool = False) -> CompletedRun:
    """Return a run whose results can be compared, or raise InputError; with ``or_diverged`` also one that diverged."""
    summary = run.summary or {"status": "not finished"}
    status = summary.get("status")
    if status != "completed" and not (or_diverged and status == "diverged"):
        hint = "it has no results" if status == "diverged" else "finish it with --resume"
        raise InputError(f"{run.path} is {status}: only completed runs can be compared ({hint})")
    completed = CompletedRun(run, run.config, run.environment, summary, run.history())
    if not completed.config.test.enabled:
        raise InputError(f"{run.path} has no test results: test.enabled must be true (got false)")
    problems = log_problems(run)
    try:  # what is asked of it later
        _ = (completed.config_id, completed.layer_code, completed.machines, completed.commits)
    except (TypeError, AttributeError) as error:
        problems.append(f"environment.json is not in the format of a run ({error})")
    if type(summary.get("num_params")) is not int:
        problems.append(f"num_params in summary.json must be an integer (got {summary.get('num_params')!r})")
    if problems:
        raise InputError(f"{run.path} cannot be compared: {problems[0]}")
    return completed


def read_given_runs(folder: Path, *, allow_code: bool) -> tuple[dict[int, CompletedRun], tuple[int, ...]]:
    """Return the completed runs of an arm by seed, and the seeds of those that diverged.

    ``folder`` is a run directory, or holds those of one experiment; else InputError is raised.
    """
    by_seed: dict[int, CompletedRun] = {}
    try:
        runs = _runs_of(folder)
        all_diverged = all((run.summary or {}).get("status") == "diverged" for run in runs)
        for run in runs:
            run.require_code_allowed(allow_code)
            completed = read_completed(run, or_diverged=not all_diverged)
            other = by_seed.setdefault(completed.seed, completed)
            if other is not completed:
                raise InputError(f"{folder} has two runs of seed {other.seed}: {other.run.path} and {run.path}")
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror} (give a folder that can be read)") from None
    first, *others = by_seed.values()
    for other in others:
        if other.config_id != first.config_id:
            raise InputError(
                f"{folder} has runs of different configurations: {first.run.path} ({first.config_id}) and "
                f"{other.run.path} ({other.config_id}); give a folder with the seeds of one"
            )
    versions = {one.layer_code: one for one in by_seed.values() if one.layer_code}  # older runs: None
    if len(versions) > 1:
        one, other, *_ = versions.values()
        raise InputError(
            f"{folder} has runs with different versions of {one.config.model.layer}: {one.run.path} and "
            f"{other.run.path}; give a folder with the seeds of one"
        )
    diverged = tuple(seed for seed in sorted(by_seed) if by_seed[seed].summary["status"] == "diverged")
    return {seed: by_seed[seed] for seed in sorted(by_seed) if seed not in diverged}, diverged


def name_of_folder(folder: Path) -> str:
    """Return the name of an arm: its folder's; ``strong-seed0`` for ``results/strong/seed0``."""
    path = folder.resolve()
    if re.fullmatch(r"seed\d+", path.name) and (path / "config.json").is_file():
        return f"{path.parent.name}-{path.name}"
    return path.name


def _runs_of(folder: Path) -> list[RunDirectory]:
    if (folder / "config.json").is_file():
        return [load_run(folder)]
    paths = [path for path in folder.iterdir() if path.name[0] != "." and (path / "config.json").is_file()]
    if not paths:
        raise InputError(f"no run in {folder} (give a run directory, or a folder of run directories)")
    return [load_run(path) for path in sorted(paths)]
