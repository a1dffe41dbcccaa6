"""Test accuracy over the seeds of an experiment."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..compare import accuracy_interval, in_percent
from ..config import NUM_TEST
from ..train import wilson_interval
from .records import Record


@dataclass(frozen=True)
class Statistics:
    """Test accuracy over seeds; all accuracies are shares, 0 to 1.

    Attributes:
        n: number of seeds.
        mean, lowest, highest: over seeds.
        deviation: standard deviation over seeds (divided by n - 1), None for one seed.
        interval: 95 % interval. Several seeds: for the mean over seeds, by Student's t, and None where all are equal.
            One seed: Wilson's score interval, where the 10,000 test digits are the sample.
    """

    n: int
    mean: float
    deviation: float | None
    lowest: float
    highest: float
    interval: tuple[float, float] | None

    @classmethod
    def from_accuracies(cls, accuracies: Sequence[float]) -> Statistics:
        """Return the statistics of one accuracy per seed, at least one, each a number of test digits / 10,000."""
        n, mean = len(accuracies), statistics.mean(accuracies)
        if n == 1:
            return cls(n, mean, None, mean, mean, wilson_interval(round(mean * NUM_TEST), NUM_TEST))
        interval = accuracy_interval(accuracies) if len(set(accuracies)) > 1 else None
        return cls(n, mean, statistics.stdev(accuracies), min(accuracies), max(accuracies), interval)

    @classmethod
    def from_records(cls, records: Sequence[Record]) -> Statistics:
        """Return the statistics of an experiment's records."""
        return cls.from_accuracies([record.accuracy for record in records])

    @property
    def meaning(self) -> str:
        """What the numbers of :meth:`percent` are: ``mean ± standard deviation of 5 seeds``, or ``one seed``."""
        return f"mean ± standard deviation of {self.n} seeds" if self.n > 1 else "one seed"

    def interval_percent(self) -> str:
        """Return the interval in percent, such as ``99.06 to 99.16``; an empty string where it is None."""
        return "" if self.interval is None else " to ".join(map(in_percent, self.interval))

    def percent(self) -> str:
        """Return mean and standard deviation in percent, such as ``99.10 ± 0.03``."""
        return in_percent(self.mean) + (f" ± {in_percent(self.deviation)}" if self.deviation is not None else "")


def range_text(numbers: Sequence[float], form: Callable[[float], str]) -> str:
    """Return the lowest and the highest of some numbers, one number where they read alike, nothing of none."""
    if not numbers:
        return ""
    least, most = form(min(numbers)), form(max(numbers))
    return least if least == most else f"{least} to {most}"
