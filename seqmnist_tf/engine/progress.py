"""How far jobs are, as lines on stderr, and the time that is left at the pace so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..system import duration
from ..train import RunDirectory, note_above_bar
from .job import Job


class Stopwatch:
    """Estimates the time that is left from the work that is done; the unit of work is the caller's."""

    def __init__(self) -> None:
        self.work = self.seconds = 0.0
        self.slots: set[str] = set()  # of the engine, that have had a job: so many jobs are done at a time

    def add(self, work: float, seconds: float) -> None:
        """Count work that one slot did in so many seconds."""
        self.work += work
        self.seconds += seconds

    def left(self, work: float, jobs: int) -> str:
        """Return how long more work of so many jobs takes at the pace so far, such as ``2.0 h left``."""
        at_a_time = max(1, min(len(self.slots), jobs))
        return f"{duration(work * self.seconds / self.work / at_a_time)} left"


def note_epoch(job: Job, history: Sequence[dict[str, Any]], more: str = "") -> None:
    """Print the last epoch of a job: its number, and the accuracy on the test set or on the held-out images."""
    split, name = ("test", "test") if job.config.test.enabled else ("val", "validation")
    accuracy = history[-1][f"{split}_accuracy"]
    epochs = f"{len(history)}/{job.config.train.n_epochs}"
    note_above_bar(f"{job.name}: epoch {epochs}, {name} accuracy {accuracy:.2%}{more}")


def note_shares(jobs: Iterable[Job]) -> None:
    """Print the share of its steps that each job has done."""
    shares = []
    for job in jobs:
        done = len(RunDirectory(job.path).step_losses())
        shares.append(f"{job.name} at {done / (job.config.train.n_epochs * job.config.steps_per_epoch):.0%}")
    note_above_bar(f"training: {', '.join(shares)}")
