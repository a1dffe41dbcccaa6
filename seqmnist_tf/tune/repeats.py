"""The repeats of a search's best trial with other seeds: what they are, and where they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import Config
from ..system import InputError
from ..train import RunDirectory
from .folder import SearchFolder
from .outcomes import outcome

REPEATS = 3  # other seeds of the best trial


def repeat_seeds(search: SearchFolder) -> list[int]:
    """Return the seeds of the repeats."""
    return [(search.base.train.seed + n) % 2**32 for n in range(1, REPEATS + 1)]


def repeat_config(search: SearchFolder, values: dict[str, Any], seed: int) -> Config:
    """Return the configuration of a trial with another seed."""
    return cfg.with_values(search.config(values), {"train.seed": seed})


def repeat_path(search: SearchFolder, trial_id: str, config: Config) -> Path:
    """Return the run directory of a repeat: one for each trial, configuration and seed."""
    experiment, seed = cfg.config_id(config), config.train.seed
    former = search.path / "repeats" / "trials" / f"seed{seed}"  # before version 0.2.0, whatever the trial
    if _is_of(former, experiment, seed):
        return former
    return search.path / "repeats" / f"trial{trial_id}-{experiment}" / f"seed{seed}"


def repeat_score(search: SearchFolder, row: dict[str, Any], seed: int) -> float | None:
    """Return the score of a repeat of a trial's row; None where it has not ended."""
    config = repeat_config(search, row["hyperparameters"], seed)
    try:
        ended = outcome(RunDirectory(repeat_path(search, row["trial"], config)))
    except InputError:
        return None
    return ended[1] if ended else None


def _is_of(path: Path, experiment: str, seed: int) -> bool:
    run = RunDirectory(path)
    try:
        return run.config_id == experiment and run.config.train.seed == seed
    except (InputError, OSError):
        return False
