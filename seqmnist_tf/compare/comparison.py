"""The result of a comparison as a value: experiments over seeds, pairs of them, and what is said about both.

Never that one is better or worse without a corrected p below 0.05.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config import Config
from ..system import InputError
from ..train import Predictions
from .runs import CompletedRun, count_of
from .statistics import (
    ALPHA,
    ENUMERATED,
    Interval,
    McNemarResult,
    difference_interval,
    holm,
    in_percent,
    mcnemar_test,
    p_text,
    percent_range,
    seeds_needed,
    sign_flip_p,
    smallest_sign_flip_p,
    t_interval,
)


@dataclass(frozen=True)
class SeededRuns:
    """The runs of one experiment. Sequences are in the order of the seeds; accuracies are shares, 0 to 1.

    Attributes:
        name: of the arm, or of the published experiment.
        runs: at least one, in the order of their seeds.
        predictions: of each final model; empty where they were not read.
        noise: ``Config.recurrent_noise``, where it acted on recurrent weights.
        notes: sentences for the report.
        diverged: seeds of the experiment that have no results, since they diverged.

    Example::

        arm = compare(["results/strong"]).arms[0]
        print(arm.text, arm.ci_95)  # 99.11 ± 0.04
    """

    name: str
    runs: Sequence[CompletedRun] = field(repr=False)
    predictions: Sequence[Predictions] = field(default=(), repr=False)
    noise: float = 0.0
    notes: tuple[str, ...] = ()
    diverged: tuple[int, ...] = ()

    @property
    def config(self) -> Config:
        """The experiment, with the first seed."""
        return self.runs[0].config

    @property
    def config_id(self) -> str:
        """Its id."""
        return self.runs[0].config_id

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        return self.runs[0].num_params

    @property
    def units(self) -> int:
        """Units of the recurrent layer."""
        return self.config.model.hidden_size

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.runs)

    @property
    def seeds_text(self) -> str:
        """Number of seeds and, if some diverged, of how many: ``6 of 8``."""
        return f"{self.n} of {self.n + len(self.diverged)}" if self.diverged else str(self.n)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(run.seed for run in self.runs)

    @property
    def correct(self) -> tuple[int, ...]:
        """Test digits that each final model classifies correctly."""
        return tuple(run.correct for run in self.runs)

    @property
    def total(self) -> int:
        """Number of test digits."""
        return self.runs[0].total

    @property
    def test_accuracy(self) -> list[float]:
        """Test accuracy of each final model."""
        return [run.accuracy for run in self.runs]

    @property
    def mean(self) -> float:
        """Mean test accuracy."""
        return statistics.fmean(self.test_accuracy)

    @property
    def std(self) -> float | None:
        """Standard deviation of the test accuracy (divided by n - 1); None for one seed."""
        return statistics.stdev(self.test_accuracy) if self.n > 1 else None

    @cached_property
    def ci_95(self) -> Interval | None:
        """95 % interval of the mean test accuracy by Student's t, within 0 to 1; None for one seed."""
        interval = t_interval(self.test_accuracy)
        return interval and (max(0.0, interval[0]), min(1.0, interval[1]))

    @property
    def range(self) -> Interval:
        """Lowest and highest test accuracy."""
        return min(self.test_accuracy), max(self.test_accuracy)

    @property
    def text(self) -> str:
        """Mean and standard deviation of the test accuracy in percent, such as ``99.11 ± 0.04``."""
        return in_percent(self.mean) + ("" if self.std is None else f" ± {in_percent(self.std)}")

    @property
    def meaning(self) -> str:
        """What the numbers of ``text`` are: ``mean ± standard deviation of 6 seeds``, or ``one seed``."""
        if self.n > 1:
            return f"mean ± standard deviation of {self.seeds_text} seeds"
        return f"one seed of {self.n + len(self.diverged)}" if self.diverged else "one seed"

    @property
    def statement(self) -> str:
        """One sentence on its test accuracy."""
        spread = f", {percent_range(self.range)} %" if self.n > 1 else ""
        seeds = f"{self.seeds_text} seeds" if self.diverged else count_of(self.n, "seed")
        return f"{self.name}: {self.text} % test accuracy ({seeds}{spread})."

    @property
    def chosen(self) -> list[tuple[int, float]]:
        """The epochs that a held-out split chose, with their test accuracies; empty where nothing was held out."""
        best = [(run, run.summary["best"]["epoch"]) for run in self.runs if run.summary.get("best")]
        return [(epoch, run.curve[epoch - 1]) for run, epoch in best]

    @property
    def seconds_per_epoch(self) -> float:
        """Mean over runs, of the mean over their epochs."""
        means = [statistics.fmean(row["seconds"] for row in run.history) for run in self.runs]
        return round(statistics.fmean(means), 3)

    @property
    def computed(self) -> str:
        """The kernels and the machines that computed the runs, each named once: ``native-amx on AMD EPYC``."""
        kernels = sorted({kernel for run in self.runs for kernel in run.kernels})
        machines = sorted({machine for run in self.runs for machine in run.machines})
        return f"{', '.join(kernels)} on {', '.join(machines)}"

    @property
    def layer_code(self) -> str | None:
        """SHA-256 of the file or module of a layer of its own."""
        return next((run.layer_code for run in self.runs if run.layer_code), None)

    def of_seed(self, seed: int) -> Predictions:
        """Return the predictions of a seed's final model."""
        return self.predictions[self.seeds.index(seed)]

    def to_json(self) -> dict[str, Any]:
        """Return the arm under the contract's names, ready for JSON."""
        names = ("name", "config_id", "num_params", "units", "seeds", "diverged", "test_accuracy", "mean", "std")
        return {name: getattr(self, name) for name in (*names, "ci_95", "seconds_per_epoch")}


@dataclass(frozen=True)
class PairResult:
    """An arm against the first arm, paired by seed.

    Attributes:
        a, b: names of the first arm and of the other.
        seeds: that both have.
        total: number of test digits.
        digits: per seed, digits that b classifies correctly minus those that a does.
        mean_difference: mean accuracy of b minus that of a, -1 to 1.
        ci_95: its 95 % interval; None for fewer than two seeds.
        ci_method: ``BCa bootstrap`` or ``Student's t``.
        sign_flip_p: exact two-sided p; None for fewer than two seeds.
        holm_p: the same after Holm's correction over all pairs with six unequal seeds or more; None for fewer.
        mcnemar: per seed.
    """

    a: str
    b: str
    seeds: tuple[int, ...]
    total: int
    digits: tuple[int, ...]
    mean_difference: float
    ci_95: Interval | None
    ci_method: str
    sign_flip_p: float | None
    holm_p: float | None
    mcnemar: tuple[McNemarResult, ...]

    @property
    def n(self) -> int:
        """Number of pairs."""
        return len(self.seeds)

    @property
    def unequal(self) -> int:
        """Number of seeds whose accuracies differ. Only these have a sign: they decide how small the p can be."""
        return sum(digits != 0 for digits in self.digits)

    def to_json(self) -> dict[str, Any]:
        """Return the pair under the contract's names, ready for JSON."""
        names = ("a", "b", "seeds", "mean_difference", "ci_95", "sign_flip_p", "holm_p")
        mcnemar = [asdict(result) for result in self.mcnemar]
        return {**{name: getattr(self, name) for name in names}, "mcnemar": mcnemar}


def pair_runs(experiments: Sequence[SeededRuns]) -> tuple[PairResult, ...]:
    """Return each other experiment against the first, paired by seed, with Holm's correction over the pairs.

    Each needs its predictions. Experiments that have no seed in common with the first are left out. Pairs with so few
    unequal seeds that their p cannot be below 0.05 take no part in the correction: they cannot be a false discovery
    (Tarone 1990).
    """
    pairs = [pair for other in experiments[1:] if (pair := _pair(experiments[0], other)) is not None]
    able = [smallest_sign_flip_p(pair.unequal) < ALPHA for pair in pairs]
    corrected = holm([pair.sign_flip_p if can_show else None for pair, can_show in zip(pairs, able, strict=True)])
    return tuple(replace(pair, holm_p=p) for pair, p in zip(pairs, corrected, strict=True))


def _pair(a: SeededRuns, b: SeededRuns) -> PairResult | None:
    of_a, of_b = (dict(zip(arm.seeds, arm.correct, strict=True)) for arm in (a, b))
    seeds, total = tuple(seed for seed in of_a if seed in of_b), a.total
    if not seeds:
        return None
    digits = tuple(of_b[seed] - of_a[seed] for seed in seeds)
    interval, method = difference_interval([number / total for number in digits])
    return PairResult(
        a=a.name,
        b=b.name,
        seeds=seeds,
        total=total,
        digits=digits,
        mean_difference=sum(digits) / (len(digits) * total),
        ci_95=interval,
        ci_method=method,
        sign_flip_p=sign_flip_p(digits),
        holm_p=None,
        mcnemar=tuple(
            mcnemar_test(seed, a.of_seed(seed).right, b.of_seed(seed).right, test=len(seeds) > 1) for seed in seeds
        ),
    )


def tested_pairs(pairs: Sequence[PairResult]) -> list[PairResult]:
    """Return the pairs over which Holm's correction is made: those whose seeds can show a difference."""
    return [pair for pair in pairs if pair.holm_p is not None]


def pair_statement(pair: PairResult, pairs: Sequence[PairResult], more_seeds: bool = True) -> str:
    """Return what a pair shows, and what its number of seeds allows.

    Args:
        pair: an experiment against the first.
        pairs: all pairs of the comparison.
        more_seeds: whether to say how many could show a difference.
    """
    difference = f"{in_percent(pair.mean_difference, sign=True)} points"
    if pair.ci_95 is None:
        return (
            f"{pair.b} against {pair.a}: {difference} with the one seed that both have. One seed allows no test: other "
            "seeds may differ by more."
        )
    tested, p = tested_pairs(pairs), p_text(pair.sign_flip_p)
    corrected = f", {p_text(pair.holm_p)} after Holm's correction" if pair in tested and len(tested) > 1 else ""
    verdict = _verdict(pair, pairs, more_seeds)
    test = "sign-flip" if pair.n <= ENUMERATED else "sign-flip (random flips)"
    return (
        f"{pair.b} against {pair.a}, {pair.n} pairs: {difference} (95 % interval {percent_range(pair.ci_95, sign=True)}"
        f", {pair.ci_method}); {test} p {p if p.startswith('<') else f'= {p}'}{corrected}. {verdict}"
    )


def _verdict(pair: PairResult, pairs: Sequence[PairResult], more_seeds: bool) -> str:
    if pair.holm_p is not None and pair.holm_p < ALPHA:
        return f"{pair.b} is {'better' if pair.mean_difference > 0 else 'worse'} than {pair.a} on this task."
    if not pair.unequal:
        return "No pair differs."
    tested = tested_pairs(pairs)
    corrected = tested if pair in tested else [pair]  # the pairs that its p is corrected for
    smallest = holm([smallest_sign_flip_p(other.unequal) for other in corrected])[corrected.index(pair)] or 0.0
    if smallest < ALPHA:
        return "No difference is shown at the 5 % level."
    equal = pair.n - pair.unequal
    seeds = f"{pair.n} seeds" + (f", {equal} of them equal," if equal else "")
    subject = f"and {len(corrected)} pairs the corrected p" if len(corrected) > 1 else "the p"
    enough = f"; with {seeds_needed(len(pairs))} {'unequal ' * bool(equal)}seeds in each pair it can"
    return (
        f"With {seeds} {subject} of this test cannot be below {p_text(smallest)}: it decides nothing, also where the "
        f"interval excludes 0{enough * more_seeds}."
    )


@dataclass(frozen=True)
class Comparison:
    """Arms compared on one task. The first arm is the reference of the pairs.

    Attributes:
        arms: the arms.
        pairs: each other arm against the first, where they have seeds in common.
        path: the folder of the report.
        markdown: the tables of ``report.md``.

    Example::

        comparison = compare(["results/strong", "runs/mine"])
        print(comparison.arms[1].mean, comparison.pairs[0].sign_flip_p)
    """

    arms: tuple[SeededRuns, ...]
    pairs: tuple[PairResult, ...]
    path: Path
    markdown: str = field(default="", repr=False)

    def arm(self, name: str) -> SeededRuns:
        """Return the arm of a name, or raise InputError where there is none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise InputError(f"no arm {name!r} (allowed: {', '.join(arm.name for arm in self.arms)})")

    @property
    def statements(self) -> tuple[str, ...]:
        """One sentence on each arm, and what each pair shows."""
        pairs = [pair_statement(pair, self.pairs) for pair in self.pairs]
        paired = [pair.b for pair in self.pairs]
        lonely = [
            f"{arm.name} and {self.arms[0].name} have no seed in common: they are not compared."
            for arm in self.arms[1:]
            if arm.name not in paired
        ]
        return (*(arm.statement for arm in self.arms), *pairs, *lonely)

    def to_json(self) -> dict[str, Any]:
        """Return the contract's JSON document: accuracies are shares of 1."""
        return {"arms": [arm.to_json() for arm in self.arms], "pairs": [pair.to_json() for pair in self.pairs]}

    def __repr__(self) -> str:
        return f"<Comparison: {' '.join(self.statements)}>"

    def _repr_markdown_(self) -> str:
        return self.markdown
