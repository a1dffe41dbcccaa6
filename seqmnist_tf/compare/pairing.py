"""The results of arms from their runs, and of pairs of arms, paired by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..train import Predictions
from .comparison import ArmResult, PairResult
from .outcomes import Outcome
from .statistics import can_show, difference_interval, holm, mcnemar_test, sign_flip_p


def arm_result(
    name: str,
    outcomes: Sequence[Outcome],
    predictions: Sequence[Predictions],
    *,
    noise: float = 0.0,
    notes: Sequence[str] = (),
) -> ArmResult:
    """Return the result of an arm.

    Args:
        name: of the arm.
        outcomes: its runs, at least one, in the order of their seeds.
        predictions: of the runs.
        noise: standard deviation of the noise that acted on recurrent weights.
        notes: sentences for the report.
    """
    first = outcomes[0]
    chosen = [o for o in outcomes if o.chosen_epoch is not None and o.chosen_accuracy is not None]
    return ArmResult(
        name=name,
        config=first.config,
        config_id=first.config_id,
        num_params=first.num_params,
        units=first.config.model.hidden_size,
        seeds=tuple(o.config.train.seed for o in outcomes),
        correct=tuple(o.correct for o in outcomes),
        total=first.total,
        epochs=first.epochs,
        chosen_epochs=tuple(o.chosen_epoch or 0 for o in chosen) or None,
        chosen_accuracies=tuple(o.chosen_accuracy or 0.0 for o in chosen) or None,
        seconds_per_epoch=round(statistics.fmean(o.seconds_per_epoch for o in outcomes), 3),
        kernels=tuple(sorted({kernel for o in outcomes for kernel in o.kernels})),
        machines=tuple(sorted({machine for o in outcomes for machine in o.machines})),
        commits=tuple(sorted({commit for o in outcomes for commit in o.commits})),
        curves=np.array([o.curve for o in outcomes]),
        predictions=tuple(predictions),
        noise=noise,
        layer_code=next((o.layer_code for o in outcomes if o.layer_code), None),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class SeededRuns:
    """The runs of one experiment, by seed.

    Attributes:
        name: of the experiment.
        correct: test digits that each final model classifies correctly.
        right: bool (n,) of each, whether it classifies each test digit correctly.
    """

    name: str
    correct: Mapping[int, int]
    right: Mapping[int, np.ndarray]


def pair_results(arms: Sequence[ArmResult]) -> tuple[PairResult, ...]:
    """Return each other arm against the first, paired by seed, with Holm's correction over the pairs."""
    return pair_runs([_seeded(arm) for arm in arms], arms[0].total)


def _seeded(arm: ArmResult) -> SeededRuns:
    right = {seed: made.right for seed, made in zip(arm.seeds, arm.predictions, strict=True)}
    return SeededRuns(arm.name, dict(zip(arm.seeds, arm.correct, strict=True)), right)


def pair_runs(experiments: Sequence[SeededRuns], total: int) -> tuple[PairResult, ...]:
    """Return each other experiment against the first, paired by seed, with Holm's correction over the pairs.

    Experiments that have no seed in common with the first are left out. Pairs with so few unequal seeds that their p
    cannot be below 0.05 take no part in the correction: they cannot be a false discovery (Tarone 1990).

    Args:
        experiments: at least one.
        total: number of test digits.
    """
    pairs = [pair for other in experiments[1:] if (pair := _pair(experiments[0], other, total)) is not None]
    corrected = holm([pair.sign_flip_p if can_show(pair.unequal) else None for pair in pairs])
    return tuple(replace(pair, holm_p=p) for pair, p in zip(pairs, corrected, strict=True))


def _pair(a: SeededRuns, b: SeededRuns, total: int) -> PairResult | None:
    seeds = tuple(seed for seed in a.correct if seed in b.correct)
    if not seeds:
        return None
    digits = tuple(b.correct[seed] - a.correct[seed] for seed in seeds)
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
        mcnemar=tuple(mcnemar_test(seed, a.right[seed], b.right[seed], test=len(seeds) > 1) for seed in seeds),
    )
