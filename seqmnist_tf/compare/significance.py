"""Tests and intervals over seeds, with SciPy.

The samples are numbers of correct digits, one per seed: integers, so that equal means are equal to the last bit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import scipy.stats

ALPHA = 0.05
CONFIDENCE = 0.95
FEWEST_OF_INTERVALS = 3  # seeds: of two, an interval says nothing
FEWEST_SEEDS = 4  # of each arm, for a test: all 70 splits of four and four can give p = 0.029
ENUMERATED = 200_000  # splits up to which all are enumerated
RANDOM_SPLITS = 99_999

Interval = tuple[float, float]


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of a mean by Student's t, in the unit of the values; None for fewer than three."""
    if len(values) < FEWEST_OF_INTERVALS:
        return None
    mean, error = float(np.mean(values)), scipy.stats.sem(values)
    if error == 0:
        return mean, mean
    low, high = scipy.stats.t.interval(CONFIDENCE, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def welch_interval(a: Sequence[int], b: Sequence[int], confidence: float = CONFIDENCE) -> Interval | None:
    """Return Welch's interval of the mean of b minus that of a; None where one of them has fewer than three."""
    if min(len(a), len(b)) < FEWEST_OF_INTERVALS:
        return None
    if len(set(a)) == len(set(b)) == 1:  # without variance SciPy's interval is not a number
        return float(b[0] - a[0]), float(b[0] - a[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy warns where one of the two does not vary
        low, high = scipy.stats.ttest_ind(b, a, equal_var=False).confidence_interval(confidence)
    return float(low), float(high)


def permutation_p(a: Sequence[int], b: Sequence[int]) -> float | None:
    """Return the two-sided p of the studentised permutation test of two means; None below four values in one of them.

    It is the share of the splits of all values into groups of these sizes whose Welch t is at least as far from 0 as
    the observed one (Janssen 1997). Up to 200,000 splits all are enumerated; above, they are drawn with a fixed random
    state. Where neither sample varies, the difference of the means takes the place of t.
    """
    if min(len(a), len(b)) < FEWEST_SEEDS:
        return None
    result = scipy.stats.permutation_test(
        (np.asarray(a, np.int64), np.asarray(b, np.int64)),
        _squared_t if len(set(a)) > 1 or len(set(b)) > 1 else _squared_difference,
        alternative="greater",
        vectorized=True,
        n_resamples=ENUMERATED if math.comb(len(a) + len(b), len(a)) <= ENUMERATED else RANDOM_SPLITS,
        batch=10_000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def _squared_difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """Return the square of the difference of two means, times (n m)^2: from integers, so that equal ones are equal."""
    n, m = x.shape[axis], y.shape[axis]
    return (n * y.sum(axis) - m * x.sum(axis)).astype(float) ** 2


def _squared_t(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """Return the square of Welch's t up to a constant factor, from integers up to the last division."""
    n, m = x.shape[axis], y.shape[axis]
    difference = _squared_difference(x, y, axis)
    squares = [k * (z * z).sum(axis) - z.sum(axis) ** 2 for z, k in ((x, n), (y, m))]
    variance = (squares[0] * (m * m * (m - 1)) + squares[1] * (n * n * (n - 1))).astype(float)
    # Without variance 1e300, not infinity, since SciPy subtracts a tolerance.
    return np.divide(difference, variance, out=np.where(difference > 0, 1e300, 0.0), where=variance > 0)


def is_equivalent(a: Sequence[int], b: Sequence[int], bound: float) -> bool | None:
    """Return whether two one-sided Welch tests at 5 % show that the means differ by less than ``bound``.

    That is so where Welch's 90 % interval lies within the bounds (Schuirmann 1987). None below four values in one.
    """
    interval = welch_interval(a, b, 1 - 2 * ALPHA)
    if interval is None or min(len(a), len(b)) < FEWEST_SEEDS:
        return None
    return -bound < interval[0] and interval[1] < bound


def failure_interval(failed: int, seeds: int) -> Interval:
    """Return the 95 % interval by Clopper and Pearson of the share of seeds that fail."""
    low, high = scipy.stats.binomtest(failed, seeds).proportion_ci(CONFIDENCE, "exact")
    return float(low), float(high)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values after Holm's correction (Holm 1979); those that are None stay None and do not count."""
    known = np.array([p for p in p_values if p is not None])
    order, n = np.argsort(known), len(known)
    corrected = np.empty(n)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(known[order] * np.arange(n, 0, -1)))
    values = iter(corrected.tolist())
    return [None if p is None else next(values) for p in p_values]


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Return the exact p of McNemar's test of two models, from the number of digits that only one has right."""
    return float(scipy.stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
