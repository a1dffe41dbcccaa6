"""Arms must agree in their task: data, pixel order, test set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config import flatten
from ..data import pixel_order
from ..system import InputError
from .arms import Arm


def require_one_task(arms: Sequence[Arm]) -> None:
    """Raise InputError where arms differ in their task, naming the difference."""
    first = arms[0]
    for arm in arms:
        if not arm.config.test.enabled:
            raise InputError(f"{arm.word}: test.enabled must be true in a comparison (got false)")
        ours, theirs = flatten(first.config), flatten(arm.config)
        for key, value in theirs.items():
            if key.startswith("task.") and key != "task.permutation" and value != ours[key]:
                raise InputError(
                    f"arms must agree in their task, but {key} is {ours[key]} for {first.word} and {value} for "
                    f"{arm.word}"
                )
        if not np.array_equal(_order(first), _order(arm)):
            raise InputError(
                f"arms must agree in their task, but task.permutation is {ours['task.permutation']} for {first.word} "
                f"and {theirs['task.permutation']} for {arm.word}"
            )


def _order(arm: Arm) -> np.ndarray:
    """Return the order in which an arm reads the pixels, int64 (784,)."""
    for outcome in arm.given.values():
        return outcome.run.pixel_order()
    return pixel_order(arm.config.task.permutation)
