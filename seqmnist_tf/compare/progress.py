"""The runs that a comparison trains, as the jobs of the engine, and a line for each of their epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engine import Job, JobEnd, due
from ..system import note
from .plan import ENDED, PlannedRun
from .runs import count_of

BAR_WIDTH = 20


class ComparisonRuns:
    """Hands out the runs of a comparison that have not ended, in their order, and reports their epochs.

    Args:
        planned: all runs that are trained.

    Attributes:
        missing: those that have not ended.
        errors: why runs failed, by run directory.
    """

    def __init__(self, planned: Sequence[PlannedRun]) -> None:
        self.planned = {run.path: run for run in planned}
        self.missing = [run for run in planned if run.status not in ENDED]
        self.errors: dict[Path, str] = {}
        self.epochs = {run.path: len(run.run.history()) for run in planned}
        self.left = {run.path: run.config.train.n_epochs - self.epochs[run.path] for run in self.missing}
        self.done, self.total = sum(self.epochs.values()), sum(run.config.train.n_epochs for run in planned)
        self.pace: dict[str, float] = {}  # seconds of the last epoch, by arm
        self.taken, self.at_a_time = 0, 0

    def take(self, slot: str) -> Job | None:
        """Return the next run."""
        if self.taken == len(self.missing):
            return None
        if self.taken == 0:
            present = len(self.planned) - len(self.missing)
            note(f"{count_of(len(self.missing), 'run')} to train, {present} of {len(self.planned)} are there already")
        self.taken += 1
        self.at_a_time = max(self.at_a_time, self.taken + len(self.left) - len(self.missing))
        return self.missing[self.taken - 1].job

    def epoch(self, job: Job, history: Sequence[dict[str, Any]]) -> None:
        """Report the new epochs of a run, the last of them in full; of a large comparison, not of every run."""
        run, row, before = self.planned[job.path], history[-1], self.epochs[job.path]
        self.pace[run.arm] = row["seconds"]
        # A resumed run repeats its last epoch where it was killed between the epoch's row and its checkpoint.
        self.epochs[job.path] = len(history)
        self.left[job.path] = job.config.train.n_epochs - len(history)
        self.done += len(history) - before
        if len(history) <= before or not due(self.done, self.total, len(history) - before):
            return
        filled = BAR_WIDTH * self.done // self.total
        note(
            f"{job.name}: epoch {len(history)}/{job.config.train.n_epochs}, test accuracy {row['test_accuracy']:.2%}, "
            f"{_duration(self.left[job.path] * row['seconds'])} left | all runs "
            f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {self.done}/{self.total} epochs, "
            f"{_duration(self.seconds_left(row['seconds']))} left"
        )

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Take note of a run's end."""
        del self.left[job.path]  # one that diverged has epochs that nobody will train
        if end.status == "failed":
            self.errors[job.path] = end.error or ""

    def seconds_left(self, seconds: float) -> float:
        """Return the time left of all runs, at the pace of each arm's last epoch, or ``seconds`` where it has none."""
        left = [epochs * self.pace.get(self.planned[path].arm, seconds) for path, epochs in self.left.items()]
        busy = min(self.at_a_time, sum(each > 0 for each in left))  # at the end, workers have nothing to do
        return max([*left, sum(left) / max(busy, 1)], default=0.0)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
