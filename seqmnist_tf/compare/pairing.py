"""The results of arms from their runs, and of pairs of arms, paired by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .comparison import ArmResult, PairResult
from .outcomes import Outcome
from .predictions import Predictions
from .statistics import difference_interval, holm, mcnemar_test, sign_flip_p


def arm_result(
    name: str,
    word: str,
    outcomes: Sequence[Outcome],
    predictions: Sequence[Predictions],
    *,
    noise: float = 0.0,
    notes: Sequence[str] = (),
) -> ArmResult:
    """Return the result of an arm.

    Args:
        name, word: of the arm.
        outcomes: its runs, at least one, in the order of their seeds.
        predictions: of the runs.
        noise: standard deviation of the noise that acted on recurrent weights.
        notes: sentences for the report.
    """
    first = outcomes[0]
    chosen = [o for o in outcomes if o.chosen_epoch is not None and o.chosen_accuracy is not None]
    return ArmResult(
        name=name,
        word=word,
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
        kernels=tuple(sorted({o.kernel for o in outcomes})),
        machines=tuple(sorted({o.machine for o in outcomes})),
        commits=tuple(sorted({o.commit for o in outcomes})),
        curves=np.array([o.curve for o in outcomes]),
        predictions=tuple(predictions),
        noise=noise,
        notes=tuple(notes),
    )


def pair_results(arms: Sequence[ArmResult]) -> tuple[PairResult, ...]:
    """Return each other arm against the first, paired by seed, with Holm's correction over the pairs."""
    pairs = [pair for arm in arms[1:] if (pair := _pair(arms[0], arm)) is not None]
    corrected = holm([pair.sign_flip_p for pair in pairs])
    return tuple(replace(pair, holm_p=p) for pair, p in zip(pairs, corrected, strict=True))


def _pair(a: ArmResult, b: ArmResult) -> PairResult | None:
    seeds = tuple(seed for seed in a.seeds if seed in b.seeds)
    if not seeds:
        return None
    correct: list[Mapping[int, int]] = [dict(zip(arm.seeds, arm.correct, strict=True)) for arm in (a, b)]
    right = [{seed: made.right for seed, made in zip(arm.seeds, arm.predictions, strict=True)} for arm in (a, b)]
    digits = tuple(correct[1][seed] - correct[0][seed] for seed in seeds)
    interval, method = difference_interval([number / a.total for number in digits])
    return PairResult(
        a=a.name,
        b=b.name,
        seeds=seeds,
        total=a.total,
        digits=digits,
        mean_difference=sum(digits) / (len(digits) * a.total),
        ci_95=interval,
        ci_method=method,
        sign_flip_p=sign_flip_p(digits),
        holm_p=None,
        mcnemar=tuple(mcnemar_test(seed, right[0][seed], right[1][seed], test=len(seeds) > 1) for seed in seeds),
    )
