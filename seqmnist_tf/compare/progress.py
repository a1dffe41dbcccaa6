"""The progress of a comparison: a line for each epoch of each run, with the time left and a bar over all runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .plan import ENDED, PlannedRun
from .runs import count_of

BAR_WIDTH = 20


class ComparisonProgress:
    """Reports epochs as they end.

    Args:
        planned: all runs that are trained.
        at_a_time: how many of them run at a time.
    """

    def __init__(self, planned: Sequence[PlannedRun], at_a_time: int) -> None:
        self.planned, self.at_a_time = planned, at_a_time
        self.stream = sys.stderr  # while a run is trained in this process, sys.stderr is its log
        self.total = sum(run.config.train.n_epochs for run in planned)
        self.reported = {run.path: len(run.run.history()) for run in planned}

    def say(self, text: str) -> None:
        """Print a line on the command's stderr at once."""
        print(text, file=self.stream, flush=True)

    def announce(self, missing: Sequence[PlannedRun]) -> None:
        """Say how many runs are there already and how many are trained."""
        present = len(self.planned) - len(missing)
        self.say(f"{count_of(len(missing), 'run')} to train, {present} of {len(self.planned)} are there already")

    def report(self, run: PlannedRun, history: Sequence[dict[str, Any]]) -> None:
        """Report the epochs of a run that have not been reported, the last of them in full."""
        before = self.reported[run.path]
        # A resumed run repeats its last epoch where it was killed between the epoch's row and its checkpoint.
        self.reported[run.path] = len(history)
        if len(history) <= before:
            return
        row, epochs = history[-1], run.config.train.n_epochs
        left = (epochs - len(history)) * row["seconds"]
        done = sum(self.reported.values())
        filled = BAR_WIDTH * done // self.total
        seconds = self._seconds_left(row["seconds"])
        self.say(
            f"{run.arm} seed {run.seed}: epoch {len(history)}/{epochs}, test accuracy {row['test_accuracy']:.2%}, "
            f"{_duration(left)} left | all runs [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done}/{self.total} "
            f"epochs, {_duration(seconds)} left"
        )

    def poll(self, runs: Sequence[PlannedRun]) -> None:
        """Report the epochs that other processes have added to the history of their runs."""
        for run in runs:
            if (run.path / "config.json").is_file():
                self.report(run, run.run.history())

    def _seconds_left(self, seconds: float) -> float:
        """Return the time left of all runs, at the pace of each arm's last epoch, or ``seconds`` where it has none."""
        pace: dict[str, float] = {}
        for run in self.planned:
            if history := run.run.history():
                pace[run.arm] = history[-1]["seconds"]
        left = [
            (run.config.train.n_epochs - self.reported[run.path]) * pace.get(run.arm, seconds)
            for run in self.planned
            if run.status not in ENDED  # one that diverged has epochs that nobody will train
        ]
        busy = min(self.at_a_time, sum(each > 0 for each in left))  # at the end, workers have nothing to do
        return max([*left, sum(left) / max(busy, 1)], default=0.0)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
