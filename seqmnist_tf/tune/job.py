"""A piece of work of a search: a trial, or a repeat of the best one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..system import RunError


@dataclass(frozen=True)
class Job:
    """A trial, or with a seed a repeat of it.

    Attributes:
        trial: KerasTuner's id of the trial.
        values: KerasTuner's hyperparameters.
        seed: the seed of a repeat; None for the trial itself.
    """

    trial: str
    values: dict[str, Any] = field(compare=False)
    seed: int | None = None

    def __str__(self) -> str:
        return f"trial {self.trial}" if self.seed is None else f"repeat of trial {self.trial} with seed {self.seed}"


Answer = Job | Literal["wait", "end"]
"""A worker's next job; ``wait`` while others are at work on the last ones; ``end`` where nothing is left."""


class JobLost(RunError):
    """The job has been given to another worker."""


class Watcher:
    """Follows a job while it runs; this one ignores it."""

    def epoch_ended(self, epochs: int, n_epochs: int) -> None:
        """Take note of an epoch's end."""

    def lost(self) -> bool:
        """Return whether the job has been given to another worker."""
        return False
