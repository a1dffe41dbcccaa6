"""The result of a comparison as a value: arms, pairs, and what is said about them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..system import InputError
from ..train import Predictions
from .statistics import Interval, McNemarResult, accuracy_interval


@dataclass(frozen=True)
class ArmResult:
    """The runs of one arm. Sequences are in the order of the seeds; accuracies are shares, 0 to 1.

    Attributes:
        name: the arm's name.
        config: the experiment.
        config_id: its id.
        num_params: number of parameters.
        units: units of the recurrent layer.
        seeds: the seeds.
        correct: test digits that each final model classifies correctly.
        total: number of test digits.
        epochs: number of epochs; the results are those of the last.
        chosen_epochs, chosen_accuracies: the epochs that the held-out split chose and their test accuracies; None
            where nothing was held out.
        seconds_per_epoch: mean over runs.
        kernels, machines, commits: what computed the runs, each named once.
        curves: test accuracy after each epoch, float (seeds, epochs).
        predictions: of each final model.
        noise: standard deviation of the noise that acted on recurrent weights.
        layer_code: SHA-256 of the file or module of a layer of its own.
        notes: sentences for the report.
    """

    name: str
    config: Config
    config_id: str
    num_params: int
    units: int
    seeds: tuple[int, ...]
    correct: tuple[int, ...]
    total: int
    epochs: int
    chosen_epochs: tuple[int, ...] | None
    chosen_accuracies: tuple[float, ...] | None
    seconds_per_epoch: float
    kernels: tuple[str, ...]
    machines: tuple[str, ...]
    commits: tuple[str, ...]
    curves: np.ndarray = field(repr=False)
    predictions: tuple[Predictions, ...] = field(repr=False)
    noise: float = 0.0
    layer_code: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.seeds)

    @property
    def test_accuracy(self) -> list[float]:
        """Test accuracy of each final model."""
        return [correct / self.total for correct in self.correct]

    @property
    def mean(self) -> float:
        """Mean test accuracy."""
        return statistics.fmean(self.test_accuracy)

    @property
    def std(self) -> float | None:
        """Standard deviation of the test accuracy (divided by n - 1); None for one seed."""
        return statistics.stdev(self.test_accuracy) if self.n > 1 else None

    @property
    def ci_95(self) -> Interval | None:
        """95 % interval of the mean test accuracy by Student's t, within 0 to 1; None for one seed."""
        return accuracy_interval(self.test_accuracy)

    def to_json(self) -> dict[str, Any]:
        """Return the arm under the contract's names, ready for JSON."""
        return {
            "name": self.name,
            "config_id": self.config_id,
            "num_params": self.num_params,
            "units": self.units,
            "seeds": list(self.seeds),
            "test_accuracy": self.test_accuracy,
            "mean": self.mean,
            "std": self.std,
            "ci_95": None if self.ci_95 is None else list(self.ci_95),
            "seconds_per_epoch": self.seconds_per_epoch,
        }


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

    @property
    def differences(self) -> list[float]:
        """Per seed, the accuracy of b minus the accuracy of a."""
        return [digits / self.total for digits in self.digits]

    def to_json(self) -> dict[str, Any]:
        """Return the pair under the contract's names, ready for JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "seeds": list(self.seeds),
            "mean_difference": self.mean_difference,
            "ci_95": None if self.ci_95 is None else list(self.ci_95),
            "sign_flip_p": self.sign_flip_p,
            "holm_p": self.holm_p,
            "mcnemar": [
                {"seed": m.seed, "only_a_right": m.only_a_right, "only_b_right": m.only_b_right, "p": m.p}
                for m in self.mcnemar
            ],
        }


@dataclass(frozen=True)
class Comparison:
    """Arms compared on one task. The first arm is the reference of the pairs.

    Attributes:
        arms: the arms.
        pairs: each other arm against the first, where they have seeds in common.
        path: the folder of the report.
        statements: one sentence on each arm and each pair.
        markdown: the tables of ``report.md``.

    Example::

        comparison = compare(["results/strong", "runs/mine"])
        print(comparison.arms[1].mean, comparison.pairs[0].sign_flip_p)
    """

    arms: tuple[ArmResult, ...]
    pairs: tuple[PairResult, ...]
    path: Path
    statements: tuple[str, ...] = ()
    markdown: str = field(default="", repr=False)

    def arm(self, name: str) -> ArmResult:
        """Return the arm of a name, or raise InputError where there is none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise InputError(f"no arm {name!r} (allowed: {', '.join(arm.name for arm in self.arms)})")

    def to_json(self) -> dict[str, Any]:
        """Return the contract's JSON document: accuracies are shares of 1."""
        return {"arms": [arm.to_json() for arm in self.arms], "pairs": [pair.to_json() for pair in self.pairs]}

    def __repr__(self) -> str:
        return f"<Comparison: {' '.join(self.statements) or ', '.join(arm.name for arm in self.arms)}>"

    def _repr_markdown_(self) -> str:
        return self.markdown
