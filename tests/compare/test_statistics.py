"""Intervals and tests against independent computations."""

from __future__ import annotations

import itertools
import math
import re
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from scipy.stats import norm

from seqmnist_tf.compare import CompletedRun, SeededRuns, statistics
from seqmnist_tf.compare.statistics import (
    difference_interval,
    holm,
    mcnemar_test,
    sign_flip_p,
    smallest_sign_flip_p,
    t_interval,
)
from seqmnist_tf.config import Config
from seqmnist_tf.train import RunDirectory
from tests.toy import ROOT


def enumerated_p(differences: list[int]) -> float:
    """Return the two-sided sign-flip p by looking at all flips."""
    observed = abs(sum(differences))
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in _signs(len(differences))]
    return sum(abs(total) >= observed for total in sums) / len(sums)


def _signs(n: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product((-1, 1), repeat=n)


@pytest.mark.parametrize(
    "differences",
    [
        [3, 1, 2],
        [-52, -61, -49, -55, -58],
        [-52, -61, -49, -55, -58, -40],
        [5, -3, 2, 2, -1, 0, 4],
        [0, 0, 0, 7],
        [1, -1],
        [0, 0],
        [10, 10, 10, -10, 3, 3, -2, 1, 9, 4],
    ],
)
def test_the_sign_flip_p_is_that_of_all_flips(differences: list[int]) -> None:
    assert sign_flip_p(differences) == pytest.approx(enumerated_p(differences), abs=1e-15)


def test_more_seeds_than_are_enumerated_are_estimated_reproducibly() -> None:
    random = np.random.RandomState(0)
    differences = random.randint(-20, 30, 21).tolist()
    p = sign_flip_p(differences)
    assert p == sign_flip_p(differences)
    # The exact p by the distribution of the sum, whose terms are independent.
    distribution = {0: 1.0}
    for d in differences:
        after: dict[int, float] = {}
        for total, share in distribution.items():
            for step in (-d, d):
                after[total + step] = after.get(total + step, 0.0) + share / 2
        distribution = after
    exact = sum(share for total, share in distribution.items() if abs(total) >= abs(sum(differences)))
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact / 999_999))


def test_what_n_allows() -> None:
    assert [smallest_sign_flip_p(n) for n in (0, 1, 2, 5, 6)] == [1, 1, 0.5, 0.0625, 0.03125]
    for n in (2, 5, 6):
        assert sign_flip_p([-1] * n) == sign_flip_p([*[-1] * n, 0, 0]) == smallest_sign_flip_p(n)
    assert sign_flip_p([4]) is None


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (12, 25), (34, 164), (5, 5), (0, 9)])
def test_mcnemar_is_the_binomial_test_of_the_digits_that_differ(only_a: int, only_b: int) -> None:
    a, b = np.zeros(300, bool), np.zeros(300, bool)
    a[:only_a] = True
    b[only_a : only_a + only_b] = True
    a[250:] = b[250:] = True
    result = mcnemar_test(7, a, b)
    expected = scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert (result.seed, result.only_a_right, result.only_b_right) == (7, only_a, only_b)
    assert result.p == pytest.approx(expected, rel=1e-12)
    assert mcnemar_test(7, a, b, test=False).p is None


def test_holm_multiplies_the_smallest_p_by_the_number_of_pairs() -> None:
    # By hand: 0.01 * 3, 0.02 * 2, 0.04 * 1, each at least the one before; None does not count.
    assert holm([0.04, None, 0.01, 0.02]) == [pytest.approx(0.04), None, pytest.approx(0.03), pytest.approx(0.04)]
    assert holm([None]) == [None]
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    many = np.random.default_rng(0).random(20) / 20
    steps = [min(1.0, (20 - rank) * p) for rank, p in enumerate(sorted(many))]  # each p is the largest up to it
    expected = dict(zip(sorted(many), accumulate(steps, max), strict=True))
    assert holm(many.tolist()) == [expected[p] for p in many]


def test_the_t_interval() -> None:
    values = [0.9909, 0.9911, 0.9909, 0.9906, 0.9913]
    half = 2.7764451051977987 * np.std(values, ddof=1) / math.sqrt(5)  # t of 0.975 with 4 degrees of freedom
    assert t_interval(values) == (pytest.approx(np.mean(values) - half), pytest.approx(np.mean(values) + half))
    assert t_interval([0.5]) is None
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_the_runs_of_an_experiment() -> None:
    accuracies = {"test_correct": 0, "test_total": 1_000}
    runs = [
        CompletedRun(RunDirectory(Path()), Config(), {}, {"final": {**accuracies, "test_correct": correct}}, [])
        for correct in (980, 990, 985)
    ]
    several = SeededRuns("mine", runs)
    assert (several.n, several.range, several.correct, several.total) == (3, (0.98, 0.99), (980, 990, 985), 1_000)
    assert (several.mean, several.std) == (pytest.approx(0.985), pytest.approx(0.005))
    half = 4.302653 * 0.005 / 3**0.5  # Student's t, two degrees of freedom, 97.5 %: any table
    assert several.ci_95 == (pytest.approx(0.985 - half), pytest.approx(0.985 + half))
    assert (several.text, several.meaning) == ("98.50 ± 0.50", "mean ± standard deviation of 3 seeds")
    assert several.statement == "mine: 98.50 ± 0.50 % test accuracy (3 seeds, 98.00 to 99.00 %)."
    one = SeededRuns("mine", runs[:1])
    assert (one.std, one.ci_95, one.text, one.meaning) == (None, None, "98.00", "one seed")
    assert one.statement == "mine: 98.00 % test accuracy (1 seed)."


def test_the_interval_of_differences() -> None:
    few = [0.01, 0.02, 0.04, 0.03]
    assert difference_interval(few) == (t_interval(few), "Student's t")
    many = [*few, 0.05, 0.01]
    (low, high), method = difference_interval(many)  # type: ignore[misc]
    assert method == difference_interval([*few, 0.05])[1] == "BCa bootstrap"  # five differences suffice
    assert min(many) < low < np.mean(many) < high < max(many)
    assert difference_interval(many) == ((low, high), method)
    assert difference_interval([0.0] * 6) == ((0.0, 0.0), "Student's t")
    assert difference_interval([0.1]) == (None, "Student's t")


def test_the_bootstrap_is_corrected_for_bias_and_acceleration() -> None:
    skewed = np.array([0.0010, 0.0013, 0.0021, 0.0034, 0.0055, 0.0144])
    means = np.random.RandomState(1).choice(skewed, (100_000, 6)).mean(axis=1)
    without_one = np.array([np.delete(skewed, i).mean() for i in range(6)])
    d = without_one.mean() - without_one
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)  # Efron 1987: the jackknife's acceleration, the resamples' bias
    z0 = norm.ppf((means < skewed.mean()).mean())
    for bound, z in zip(difference_interval(skewed.tolist())[0] or (), norm.ppf([0.025, 0.975]), strict=True):
        expected = np.quantile(means, norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))))
        assert bound == pytest.approx(expected, abs=2.5e-4)
        assert bound != pytest.approx(np.quantile(means, norm.cdf(z)), abs=2.5e-4)  # the percentiles as they are


def test_the_bootstraps_coverage_is_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 999)
    text = " ".join((ROOT / "docs/compare.md").read_text().split())
    found = re.search(r"(\d+), (\d+) and (\d+) of 100 cases with 6, 10 and 20 seeds", text)
    assert found
    random = np.random.default_rng(0)
    for seeds, documented in zip((6, 10, 20), map(int, found.groups()), strict=True):
        samples = random.standard_normal((1000, seeds))
        intervals = [difference_interval(sample)[0] or (1, 1) for sample in samples.tolist()]
        covered = 100 * np.mean([low <= 0 <= high for low, high in intervals])
        assert covered == pytest.approx(documented, abs=2)  # the standard error of 1,000 samples is 1
