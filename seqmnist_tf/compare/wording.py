"""What is said about arms and pairs. Never that one is better or worse without a corrected p below 0.05."""

from __future__ import annotations

from collections.abc import Sequence

from .comparison import ArmResult, Comparison, PairResult
from .statistics import ALPHA, ENUMERATED, holm, smallest_sign_flip_p


def in_percent(share: float, sign: bool = False) -> str:
    """Return a share (-1 to 1) in percent with two decimals, without the percent sign.

    Example:
        >>> in_percent(0.9910), in_percent(-0.00001, sign=True)
        ('99.10', '0.00')
    """
    text = f"{100 * share:+.2f}" if sign else f"{100 * share:.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def mean_and_std(arm: ArmResult) -> str:
    """Return mean and standard deviation of the test accuracy in percent, such as ``99.10 ± 0.03``."""
    return in_percent(arm.mean) + ("" if arm.std is None else f" ± {in_percent(arm.std)}")


def p_text(p: float | None) -> str:
    """Return a p value with the digits that matter; empty where no test was made."""
    if p is None:
        return ""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def count_of(number: int, noun: str) -> str:
    """Return ``1 seed``, ``2 seeds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def arm_statement(arm: ArmResult) -> str:
    """Return one sentence on an arm."""
    spread = ""
    if arm.n > 1:
        spread = f", {in_percent(min(arm.test_accuracy))} to {in_percent(max(arm.test_accuracy))} %"
    return f"{arm.name}: {mean_and_std(arm)} % test accuracy ({count_of(arm.n, 'seed')}{spread})."


def tested_pairs(pairs: Sequence[PairResult]) -> list[PairResult]:
    """Return the pairs over which Holm's correction is made: those whose seeds can show a difference."""
    return [pair for pair in pairs if pair.holm_p is not None]


def pair_statement(pair: PairResult, pairs: Sequence[PairResult]) -> str:
    """Return what a pair shows, and what its number of seeds allows.

    Args:
        pair: an arm against the first.
        pairs: all pairs of the comparison.
    """
    difference = f"{in_percent(pair.mean_difference, sign=True)} points"
    if pair.ci_95 is None:
        return (
            f"{pair.b} against {pair.a}: {difference} with the one seed that both have. One seed allows no test: other "
            "seeds may differ by more."
        )
    low, high = (in_percent(bound, sign=True) for bound in pair.ci_95)
    tested = tested_pairs(pairs)
    corrected = f", {p_text(pair.holm_p)} after Holm's correction" if pair in tested and len(tested) > 1 else ""
    return (
        f"{pair.b} against {pair.a}, {pair.n} pairs: {difference} (95 % interval {low} to {high}, {pair.ci_method}); "
        f"{_test_name(pair)} p {_equal(pair.sign_flip_p)}{corrected}. {_verdict(pair, pairs)}"
    )


def _equal(p: float | None) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def _test_name(pair: PairResult) -> str:
    return "sign-flip" if pair.n <= ENUMERATED else "sign-flip (random flips)"


def _verdict(pair: PairResult, pairs: Sequence[PairResult]) -> str:
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
    return (
        f"With {seeds} {subject} of this test cannot be below {p_text(smallest)}, so that it can show no "
        f"difference; with {seeds_needed(len(pairs))} {'unequal ' * bool(equal)}seeds in each pair it can."
    )


def seeds_needed(pairs: int) -> int:
    """Return the smallest number of seeds with which a p below 0.05 is possible after Holm's correction.

    Example:
        >>> seeds_needed(1), seeds_needed(3)
        (6, 7)
    """
    n = 2
    while pairs * smallest_sign_flip_p(n) >= ALPHA:
        n += 1
    return n


def statements(comparison: Comparison) -> tuple[str, ...]:
    """Return one sentence on each arm, and what each pair shows."""
    pairs = [pair_statement(pair, comparison.pairs) for pair in comparison.pairs]
    lonely = [
        f"{arm.name} and {comparison.arms[0].name} have no seed in common: they are not compared."
        for arm in comparison.arms[1:]
        if arm.name not in [pair.b for pair in comparison.pairs]
    ]
    return (*(arm_statement(arm) for arm in comparison.arms), *pairs, *lonely)
