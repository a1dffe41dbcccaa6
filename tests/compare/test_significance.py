"""Intervals and tests against independent computations, with itertools and NumPy alone where that is possible."""

from __future__ import annotations

import itertools
import math
from itertools import accumulate

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqmnist_tf.compare import SeededRuns, equivalence_bound, pair_runs, verdict
from seqmnist_tf.compare.significance import (
    failure_interval,
    holm,
    is_equivalent,
    mcnemar_p,
    permutation_p,
    t_interval,
    welch_interval,
)
from seqmnist_tf.system import p_text
from tests.compare.runs import seeded

LSTM = [9861, 9842, 9831, 9828, 9826, 9861, 9843, 9829]  # digits of the published board_lstm, board_gru and others
GRU = [9886, 9900, 9894, 9889, 9823, 9885]
MIN_LSTM = [9258, 9255, 9246, 9293, 9291, 9220, 9215, 9234]


def enumerated_p(a: list[int], b: list[int]) -> float:
    """Return the share of all splits whose Welch t is as far from 0 as the observed one, or whose means are."""
    values, n = np.array([*a, *b], float), len(a)
    varies = len(set(a)) > 1 or len(set(b)) > 1

    def distance(first: tuple[int, ...]) -> float:
        chosen = np.isin(np.arange(len(values)), first)
        x, y = values[chosen], values[~chosen]
        difference = abs(y.mean() - x.mean())
        error = math.sqrt(x.var(ddof=1) / len(x) + y.var(ddof=1) / len(y)) if varies else 1.0
        return difference / error if error else math.inf if difference > 1e-9 else 0.0

    distances = [distance(first) for first in itertools.combinations(range(len(values)), n)]
    return float(np.mean(np.array(distances) >= distances[0] * (1 - 1e-9)))


samples = st.lists(st.integers(9_780, 9_800), min_size=4, max_size=5)


@given(samples, samples)
@example(LSTM, GRU)
@example(LSTM, MIN_LSTM[:4])
@example([1, 2, 3, 4], [5, 6, 7, 8])
@example([9800] * 4, [9801, 9802, 9801, 9801, 9800])
@example([9800] * 5, [9800] * 5)
@example([9800] * 5, [9801] * 4)
@example([0, 0, 0, 10_000], [10_000, 10_000, 10_000, 0])
@settings(max_examples=30, deadline=None)
def test_the_p_is_that_of_all_splits(a: list[int], b: list[int]) -> None:
    assert permutation_p(a, b) == pytest.approx(enumerated_p(a, b), abs=1e-12)
    assert permutation_p(b, a) == permutation_p(a, b)


def test_the_smallest_p_of_eight_against_eight_is_that_of_two_splits() -> None:
    assert permutation_p(LSTM, MIN_LSTM) == pytest.approx(2 / 12_870, abs=1e-15)


def test_more_splits_than_are_enumerated_are_drawn_reproducibly() -> None:
    random = np.random.default_rng(1)
    a, b = random.integers(0, 100, 12).tolist(), random.integers(15, 115, 12).tolist()
    p = permutation_p(a, b)
    assert p == permutation_p(a, b)
    assert p == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue, rel=0.2)  # near, not equal
    far = [value + 1_000 for value in a]
    assert permutation_p(a, far) == pytest.approx(1 / 100_000, rel=1e-9)  # one of the splits drawn, itself counted


@pytest.mark.parametrize(("a", "b"), [(LSTM, GRU), (LSTM, MIN_LSTM), ([1, 2, 4], [5, 9, 9])])
def test_welchs_interval_and_two_one_sided_tests_are_scipys(a: list[int], b: list[int]) -> None:
    expected = scipy.stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    assert welch_interval(a, b) == pytest.approx(tuple(expected), rel=1e-12)
    if min(len(a), len(b)) < 4:
        return
    for bound in (20.0, 40.0, 66.0, 75.0, 612.0, 700.0):  # 66 and 612 lie between the 90 and the 95 % interval
        below = scipy.stats.ttest_ind(np.add(b, bound), a, equal_var=False, alternative="greater").pvalue
        above = scipy.stats.ttest_ind(np.subtract(b, bound), a, equal_var=False, alternative="less").pvalue
        assert is_equivalent(a, b, bound) == (max(below, above) < 0.05)


def test_few_values_have_no_p_and_no_interval_and_equal_ones_an_interval_without_width() -> None:
    assert permutation_p([1, 2, 3], [4, 5, 6, 7, 8]) is permutation_p([1, 2, 3, 4], [5]) is None
    assert is_equivalent([1, 2, 3], [1, 2, 3, 4], 9.0) is None
    assert welch_interval([3, 3, 3], [5, 5, 5]) == (2.0, 2.0)
    low, high = welch_interval([3, 3, 3], [4, 5, 6]) or (0.0, 0.0)  # by hand: 2 degrees of freedom, error 1 / 3**0.5
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert is_equivalent([3] * 4, [5] * 4, 2.5) is True and is_equivalent([3] * 4, [5] * 4, 2.0) is False
    assert welch_interval([3, 3], [5, 6, 7]) is None
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.5) and t_interval([0.5]) is None


def test_the_t_interval() -> None:
    values = [0.9909, 0.9911, 0.9909, 0.9906, 0.9913]
    half = 2.7764451051977987 * np.std(values, ddof=1) / math.sqrt(5)  # t of 0.975 with 4 degrees of freedom
    assert t_interval(values) == (pytest.approx(np.mean(values) - half), pytest.approx(np.mean(values) + half))


@pytest.mark.parametrize(("failed", "seeds"), [(0, 8), (1, 8), (5, 6), (8, 8)])
def test_clopper_and_pearsons_bounds_leave_2_5_percent_on_each_side(failed: int, seeds: int) -> None:
    low, high = failure_interval(failed, seeds)
    if failed:
        assert scipy.stats.binom.sf(failed - 1, seeds, low) == pytest.approx(0.025)
    if failed < seeds:
        assert scipy.stats.binom.cdf(failed, seeds, high) == pytest.approx(0.025)
    assert (low == 0) == (failed == 0) and (high == 1) == (failed == seeds)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (12, 25), (34, 164), (5, 5), (0, 9)])
def test_mcnemar_doubles_the_binomial_tail(only_a: int, only_b: int) -> None:
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    assert mcnemar_p(only_a, only_b) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)


def test_holm_multiplies_the_smallest_p_by_the_number_of_pairs() -> None:
    # By hand: 0.01 * 3, 0.02 * 2, 0.04 * 1, each at least the one before; None does not count.
    assert holm([0.04, None, 0.01, 0.02]) == [pytest.approx(0.04), None, pytest.approx(0.03), pytest.approx(0.04)]
    assert (holm([None]), holm([]), holm([0.6, 0.7])) == ([None], [], [1.0, 1.0])
    many = np.random.default_rng(0).random(20) / 20
    steps = [min(1.0, (20 - rank) * p) for rank, p in enumerate(sorted(many))]  # each p is the largest up to it
    expected = dict(zip(sorted(many), accumulate(steps, max), strict=True))
    assert holm(many.tolist()) == [expected[p] for p in many]


def test_a_p_has_two_digits() -> None:
    written = ["1.0", "0.048", "0.0010", "<0.001", ""]
    assert [p_text(p) for p in (1.0, 0.0476, 0.001, 0.00099, None)] == written


def test_the_numbers_of_an_arm() -> None:
    arm = seeded("a", {0: 20, 1: 30, 4: 22, 7: 24})
    shares = [20 / 30, 1.0, 22 / 30, 24 / 30]
    document = arm.to_json()
    assert list(document) == [
        *("name", "config_id", "num_params", "units", "seeds", "test_accuracy", "mean", "std", "median", "worst"),
        *("failed", "ci_95", "seconds_per_epoch", "step_ms", "peak_mb"),
    ]
    assert (document["seeds"], document["test_accuracy"]) == ([0, 1, 4, 7], shares)
    numbers = [document[name] for name in ("mean", "std", "median", "worst")]
    assert numbers == pytest.approx([np.mean(shares), np.std(shares, ddof=1), 23 / 30, 20 / 30])
    assert document["ci_95"] == pytest.approx((np.mean(shares) - 3.182446 * np.std(shares, ddof=1) / 2, 1.0))
    assert seeded("b", {0: 20}).std is seeded("b", {0: 20}).ci_95 is None


def test_every_seed_counts() -> None:
    """A run at chance and one that skipped steps are in the mean; one without weights is not. All three failed."""
    skipped = {2: range(601, 608), 3: range(595, 607)}  # of 600 steps an epoch: 7 of the second, 6 of both
    arm = seeded("a", {0: 24, 1: 5, 2: 24, 3: 24}, skipped=skipped)
    assert [run.failed for run in seeded("b", {0: 6, 1: 7, 2: 5}).runs] == [False, False, True]  # 20 % of 30 are 6
    arm = SeededRuns(arm.name, arm.runs, diverged=(9,))
    assert (arm.failed, arm.failures, arm.n) == (3, "3 of 5", 4)
    assert arm.mean == pytest.approx(77 / 120)
    document = arm.to_json()
    assert (document["seeds"], document["failed"]) == ([0, 1, 2, 3, 9], 3)
    assert document["test_accuracy"] == [24 / 30, 5 / 30, 24 / 30, 24 / 30, None]


def test_pairs_are_with_the_first_arm_and_corrected_over_all() -> None:
    a, b = seeded("a", dict(enumerate([20, 21, 19, 22]))), seeded("b", dict(enumerate([24, 25, 26, 24, 25], 3)))
    c, d = seeded("c", dict(enumerate([20, 21, 19, 22]))), seeded("d", {0: 20})
    ab, ac, ad = pair_runs([a, b, c, d])
    assert ab.mean_difference == pytest.approx(24.8 / 30 - 20.5 / 30)
    assert ab.permutation_p == enumerated_p([20, 21, 19, 22], [24, 25, 26, 24, 25])
    assert ab.holm_p == pytest.approx(2 * ab.permutation_p) and ac.permutation_p == ac.holm_p == 1.0
    low, high = welch_interval([20, 21, 19, 22], [24, 25, 26, 24, 25]) or (0, 0)
    assert ab.ci_95 == pytest.approx((low / 30, high / 30))
    assert (ad.ci_95, ad.permutation_p, ad.holm_p, ad.equivalent) == (None, None, None, None)


def test_equivalent_is_within_0_15_points_and_with_another_order_within_0_3() -> None:
    for order, equivalent in (("none", False), ("bit_reversal", True)):
        a, b = (
            seeded(f"{correct}", dict.fromkeys(range(4), correct), total=10_000, task__permutation=order)
            for correct in (9_840, 9_860)
        )
        (pair,) = pair_runs([a, b])
        assert pair.equivalent is equivalent


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([9_840, 9_850, 9_860, 9_870], [9_890, 9_900, 9_910, 9_920], "different"),
        ([9_840, 9_841, 9_842, 9_843], [9_846, 9_847, 9_848, 9_849], "different, within 0.15"),
        ([9_840, 9_841, 9_842, 9_843], [9_840, 9_841, 9_842, 9_844], "within 0.15"),
        ([9_800, 9_830, 9_860, 9_890], [9_805, 9_835, 9_865, 9_895], "undecided"),
        ([9_800, 9_830, 9_860], [9_890, 9_891, 9_892], ""),
    ],
)
def test_the_verdict_on_a_pair(a: list[int], b: list[int], words: str) -> None:
    arms = [seeded(name, dict(enumerate(correct)), total=10_000) for name, correct in (("a", a), ("b", b))]
    (pair,) = pair_runs(arms)
    assert verdict(pair, equivalence_bound(arms[0].config)) == words
