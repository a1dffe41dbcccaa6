"""Seeds as a command line gives them: ``0-5``, ``0,2,4``, ``0-2,7``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..config import OPTIONS
from ..system import InputError

DEFAULT_SEEDS = "0-5"  # with six seeds the sign-flip p can reach 0.03125, with five no less than 0.0625
MAX_SEEDS = 1000


def parse_seeds(given: str | Iterable[int]) -> tuple[int, ...]:
    """Return seeds in ascending order.

    Args:
        given: text such as ``0-5`` or ``0,2,4``, or the numbers themselves.

    Raises:
        InputError: the text cannot be read, a range falls, a seed is given twice or is out of range.

    Example:
        >>> parse_seeds("0-2,7")
        (0, 1, 2, 7)
    """
    text = given if isinstance(given, str) else ",".join(str(seed) for seed in given)
    allowed = f"--seeds must be seeds such as 0-5 or 0,2,4 (got {text!r})"
    seeds: list[int] = []
    for part in text.split(","):
        if not (match := re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)):
            raise InputError(allowed)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"{allowed}: the range {part.strip()} falls")
        if len(seeds) + last - first >= MAX_SEEDS:
            raise InputError(f"--seeds must be at most {MAX_SEEDS:,} seeds (got {text!r})")
        seeds += range(first, last + 1)
    for seed in seeds:
        OPTIONS["train.seed"].check(seed)
    if len(set(seeds)) != len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise InputError(f"{allowed}: {twice} is given twice")
    return tuple(sorted(seeds))
