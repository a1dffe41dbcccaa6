"""The trials of a search and the repeats of its best one: their configurations, and what their runs came to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import Config
from ..engine import same_experiment
from ..model import module_code
from ..system import InputError
from ..train import AT_CHANCE, RunDirectory
from .folder import SearchFolder

WORST = 0.0  # score of a trial that diverged
OF_A_SUMMARY = ("status", "epochs", "escape_epoch", "seconds_total")
REPEATS = 3  # other seeds of the best trial


def stop_at_chance(n_epochs: int, history: list[dict[str, Any]]) -> str | None:
    """Return why a run of ``n_epochs`` is stopped: it is at chance after half of its epochs. None where it goes on.

    Averaged weights (``optimizer.ema_momentum``) can be at chance long after the trained ones have left it, so both the
    training and the held-out images have to be at chance.
    """
    at_chance = max(history[-1]["val_accuracy"], history[-1]["train_accuracy"]) < AT_CHANCE
    if at_chance and len(history) < n_epochs <= 2 * len(history):
        return f"at chance after {len(history)} of {n_epochs} epochs"
    return None


def outcome(run: RunDirectory) -> tuple[str, float] | None:
    """Return the status of a trial's run (completed, stopped, diverged) and its score; None where it has not ended.

    Raises:
        InputError: a file of the run cannot be read.
    """
    summary, history = run.summary, run.history()
    if summary is None:
        return None
    if missing := [key for key in OF_A_SUMMARY if key not in summary]:
        raise InputError(f"cannot read {run.path / 'summary.json'}: it has no {missing[0]}")
    status = summary["status"]
    if status in ("completed", "stopped"):
        if not history or len(history) != summary["epochs"] or not isinstance(history[-1].get("val_accuracy"), float):
            raise InputError(f"cannot read {run.path / 'history.jsonl'}: it lacks epochs of its summary.json")
        return status, history[-1]["val_accuracy"]
    return ("diverged", WORST) if status == "diverged" else None


def read_row(search: SearchFolder, trial_id: str, values: dict[str, Any], score: float = WORST) -> dict[str, Any]:
    """Return the row of a trial that has ended, as in ``trials.json``.

    Its keys: ``trial`` (the number, as text), ``status``, ``score`` (held-out accuracy, 0 to 1), ``epochs``,
    ``escape_epoch``, ``seconds``, ``values`` (by row of the space) and ``hyperparameters`` (KerasTuner's). ``score`` is
    used for a run of version 0.1.0 that was stopped at chance: its status is ``interrupted``.

    Raises:
        InputError: a file of its run cannot be read.
    """
    run = RunDirectory(search.trial_path(trial_id))
    status, score = outcome(run) or ("stopped", score)
    if (summary := run.summary) is None:
        raise InputError(f"{run.path} has no summary.json")
    return {
        "trial": trial_id,
        "status": status,
        "score": score,
        "epochs": summary["epochs"],
        "escape_epoch": summary["escape_epoch"],
        "seconds": summary["seconds_total"],
        "values": {key: value for key, value in values.items() if not key.startswith("tuner/")},
        "hyperparameters": values,
    }


def repeat_seeds(search: SearchFolder) -> list[int]:
    """Return the seeds of the repeats."""
    return [(search.base.train.seed + n) % 2**32 for n in range(1, REPEATS + 1)]


def repeat_config(search: SearchFolder, row: dict[str, Any], seed: int) -> Config:
    """Return the configuration of a trial's row with another seed."""
    return cfg.with_values(search.config(row["hyperparameters"]), {"train.seed": seed})


def repeat_path(search: SearchFolder, row: dict[str, Any], config: Config) -> Path:
    """Return the run directory of a repeat: one for each trial, configuration and seed."""
    experiment, seed = cfg.config_id(config), config.train.seed
    former = search.path / "repeats" / "trials" / f"seed{seed}"  # of version 0.1.0, whatever the trial
    with contextlib.suppress(InputError):
        if same_experiment(config, RunDirectory(former).config):
            return former
    return search.place("repeats/trial", row["trial"], f"-{experiment}") / f"seed{seed}"


def repeat_score(search: SearchFolder, row: dict[str, Any], seed: int) -> float | None:
    """Return the score of a repeat of a trial's row; None where it has not ended."""
    try:
        ended = outcome(RunDirectory(repeat_path(search, row, repeat_config(search, row, seed))))
    except InputError:
        return None
    return ended[1] if ended else None


def require_same_modules(search: SearchFolder) -> None:
    """Raise InputError where a run was trained with another version of the module of its layer.

    A layer from a file is held to its content by ``search.json``. This imports the modules.
    """
    layers = {search.base.model.layer, *search.own_layers}
    codes = {layer: module_code(cfg.with_values(search.base, {"model.layer": layer})) for layer in layers}
    if not any(codes.values()):
        return
    for path in sorted([*search.path.glob("trials/*/"), *search.path.glob("repeats/*/*/")]):
        try:
            run = RunDirectory(path)
            layer, was = run.config.model.layer, run.environment.get("layer_code")
        except InputError:
            continue
        if was and codes.get(layer, was) != was:
            raise InputError(
                f"{path} was trained with another version of {layer} (restore the module, or give a new --dir)"
            )
