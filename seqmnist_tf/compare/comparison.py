"""The result of a comparison as a value: experiments over seeds, and each of them against the first."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config import Config
from ..system import in_percent, percent_range
from ..train import Predictions
from .runs import CompletedRun
from .significance import ALPHA, Interval, holm, is_equivalent, permutation_p, t_interval, welch_interval

EQUIVALENT = 0.0015  # difference in accuracy below which means are equivalent, on sMNIST
EQUIVALENT_PERMUTED = 0.003  # and with another pixel order


@dataclass(frozen=True)
class SeededRuns:
    """The runs of one experiment. Sequences are in the order of the seeds; accuracies are shares, 0 to 1."""

    name: str
    runs: Sequence[CompletedRun] = field(repr=False)  # at least one
    predictions: Sequence[Predictions] = field(default=(), repr=False)  # of each final model, or not read
    diverged: tuple[int, ...] = ()  # seeds without weights, since their loss was not a finite number: they failed
    step_ms: float | None = None  # of a training step, where one was measured
    peak_mb: float | None = None  # the most memory of a process that does such steps
    notes: tuple[str, ...] = ()  # sentences for the report

    @property
    def config(self) -> Config:
        """The experiment, with the first seed."""
        return self.runs[0].config

    @property
    def config_id(self) -> str:
        return self.runs[0].config_id

    @property
    def num_params(self) -> int:
        return self.runs[0].num_params

    @property
    def units(self) -> int:
        """Units of the recurrent layer."""
        return self.config.model.hidden_size

    @property
    def n(self) -> int:
        """Number of seeds that have an accuracy."""
        return len(self.runs)

    @property
    def num_seeds(self) -> int:
        """Number of seeds, with those that diverged."""
        return self.n + len(self.diverged)

    @property
    def seeds_text(self) -> str:
        """Number of seeds and, if some diverged, of how many: ``6 of 8``."""
        return f"{self.n} of {self.num_seeds}" if self.diverged else str(self.n)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that have an accuracy."""
        return tuple(run.seed for run in self.runs)

    @property
    def correct(self) -> tuple[int, ...]:
        """Test digits that each final model classifies correctly."""
        return tuple(run.correct for run in self.runs)

    @property
    def total(self) -> int:
        return self.runs[0].total

    @property
    def test_accuracy(self) -> list[float]:
        return [run.accuracy for run in self.runs]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.test_accuracy)

    @property
    def std(self) -> float | None:
        """Standard deviation of the test accuracy (divided by n - 1); None for one seed."""
        return statistics.stdev(self.test_accuracy) if self.n > 1 else None

    @property
    def median(self) -> float:
        return statistics.median(self.test_accuracy)

    @property
    def worst(self) -> float:
        return min(self.test_accuracy)

    @property
    def failed(self) -> int:
        """Number of seeds that failed: they diverged, end below 20 %, or skipped more than 1 % of an epoch's steps."""
        return sum(run.failed for run in self.runs) + len(self.diverged)

    @property
    def failures(self) -> str:
        """The number of seeds that failed, and of how many: ``1 of 8``."""
        return f"{self.failed} of {self.num_seeds}"

    @property
    def falls(self) -> str:
        """The number of seeds whose test accuracy once fell by 9 points or more, and of how many: ``1 of 8``."""
        return f"{sum(run.fell for run in self.runs)} of {self.n}"

    @cached_property
    def ci_95(self) -> Interval | None:
        """95 % interval of the mean test accuracy by Student's t, within 0 to 1; None for fewer than three seeds."""
        interval = t_interval(self.test_accuracy)
        return interval and (max(0.0, interval[0]), min(1.0, interval[1]))

    @property
    def text(self) -> str:
        """Mean and standard deviation of the test accuracy in percent, such as ``99.11 ± 0.04``."""
        return in_percent(self.mean) + ("" if self.std is None else f" ± {in_percent(self.std)}")

    @property
    def seconds_per_epoch(self) -> float:
        """Mean over runs, of the mean over their epochs."""
        means = [statistics.fmean(row["seconds"] for row in run.history) for run in self.runs]
        return round(statistics.fmean(means), 3)

    def to_json(self) -> dict[str, Any]:
        """Return the arm, ready for JSON; a seed that diverged has the accuracy None."""
        by_seed = {**dict.fromkeys(self.diverged), **{run.seed: run.accuracy for run in self.runs}}
        seeds = sorted(by_seed)
        numbers = ("mean", "std", "median", "worst", "failed", "ci_95", "seconds_per_epoch", "step_ms", "peak_mb")
        return {
            **{name: getattr(self, name) for name in ("name", "config_id", "num_params", "units")},
            "seeds": seeds,
            "test_accuracy": [by_seed[seed] for seed in seeds],
            **{name: getattr(self, name) for name in numbers},
        }


@dataclass(frozen=True)
class PairResult:
    """An arm against the first arm. Their seeds are independent samples, and may be of different numbers."""

    a: str  # the first arm
    b: str
    mean_difference: float  # of accuracies, b minus a, -1 to 1
    ci_95: Interval | None  # Welch's, of the difference; None where an arm has fewer than three seeds
    permutation_p: float | None  # studentised, two-sided; None where an arm has fewer than four seeds
    holm_p: float | None  # corrected over all pairs
    equivalent: bool | None  # by two one-sided tests, within 0.15 points (0.3 with permuted pixels); None as p

    @property
    def text(self) -> str:
        """The difference in points with its interval, such as ``+0.38 (+0.28 to +0.48)``."""
        interval = f" ({percent_range(self.ci_95, sign=True)})" if self.ci_95 else ""
        return in_percent(self.mean_difference, sign=True) + interval


def pair_runs(experiments: Sequence[SeededRuns]) -> tuple[PairResult, ...]:
    """Return each other experiment against the first, with Holm's correction over them."""
    first, *others = experiments
    bound = equivalence_bound(first.config) * first.total
    ps = [permutation_p(first.correct, other.correct) for other in others]
    pairs = []
    for other, p, holm_p in zip(others, ps, holm(ps), strict=True):
        interval = welch_interval(first.correct, other.correct)
        ci_95 = interval and (interval[0] / first.total, interval[1] / first.total)
        equivalent = is_equivalent(first.correct, other.correct, bound)
        pairs.append(PairResult(first.name, other.name, other.mean - first.mean, ci_95, p, holm_p, equivalent))
    return tuple(pairs)


def equivalence_bound(config: Config) -> float:
    """Return the difference in accuracy below which two means on a task count as equivalent."""
    return EQUIVALENT if config.task.permutation == "none" else EQUIVALENT_PERMUTED


def verdict(pair: PairResult, bound: float) -> str:
    """Return ``different``, ``within 0.15`` (the bound in points), both, or ``undecided``; empty without a test."""
    if pair.holm_p is None:
        return ""
    words = ["different"] if pair.holm_p < ALPHA else []
    if pair.equivalent:
        words.append(f"within {100 * bound:g}")
    return ", ".join(words) or "undecided"


@dataclass(frozen=True)
class Comparison:
    """Arms compared on one task: ``pairs`` are each other arm against the first, ``path`` has the report.

    Example::

        comparison = compare(["results/strong", "runs/mine"])
        print(comparison.arms[1].mean, comparison.pairs[0].permutation_p)
    """

    arms: tuple[SeededRuns, ...]
    pairs: tuple[PairResult, ...]
    path: Path
    markdown: str = field(default="", repr=False)  # the tables of ``report.md``

    def arm(self, name: str) -> SeededRuns:
        """Return the arm of a name; raise KeyError where there is none."""
        return {arm.name: arm for arm in self.arms}[name]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document: accuracies are shares of 1."""
        return {"arms": [arm.to_json() for arm in self.arms], "pairs": [asdict(pair) for pair in self.pairs]}

    def _repr_markdown_(self) -> str:
        return self.markdown
