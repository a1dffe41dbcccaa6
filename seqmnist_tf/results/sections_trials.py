"""Generated section: the trials, by which recipes were chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..compare import in_percent, task_name
from ..config import PRESETS, differences, of_the_experiment, value_text
from ..system import markdown_table
from .board import Board
from .paragraphs import wrap_text
from .records import Record
from .sections_accuracy import code_of, record_link, replay_text

OWN_COLUMNS = ("task.validation_size", "test.enabled", "train.n_epochs")


def trials_text(board: Board) -> str:
    """One row per trial; of those with one pixel order and as many epochs, the best first. Then how far they differ."""
    if not board.trials:
        return "No trial is published yet."
    head = [
        "recipe",
        ">seed",
        ">epochs",
        ">images held out",
        ">accuracy on them, %",
        ">training accuracy, %",
        "commit",
        "configuration",
        "trained anew",
    ]
    trials = sorted(board.trials, key=_place)
    table = markdown_table(head, [_trial_row(trial) for trial in trials])
    groups: dict[tuple[str, int], list[Record]] = {}
    for trial in trials:
        task = trial.config.task
        groups.setdefault((task.permutation, task.validation_size), []).append(trial)
    spreads = [_spread(order, images, same) for (order, images), same in groups.items() if len(same) > 1]
    return "\n\n".join([table, *spreads])


def _spread(order: str, images: int, trials: Sequence[Record]) -> str:
    """Return how many trials of one task are as good as the best of them, for all that chance alone does to it."""
    accuracies = [_accuracy(trial) for trial in trials]
    best = max(accuracies)
    error = math.sqrt(best * (1 - best) / images)
    near = sum(accuracy >= best - 2 * error for accuracy in accuracies)
    task = task_name(order)
    among = f"{near} of the {len(trials)} trials on {task}, the best included, are"
    subject = among if near > 1 else f"No other trial on {task} is"
    return wrap_text(
        f"{subject} within two standard errors ({round(2 * error * images):,} of {images:,} images) of the best."
    )


def _place(trial: Record) -> tuple[Any, ...]:
    config = trial.config
    return config.task.permutation, config.train.n_epochs, -_accuracy(trial), trial.name, trial.seed


def _accuracy(trial: Record) -> float:
    return trial.summary["final"]["val_accuracy"]


def _trial_row(trial: Record) -> list[Any]:
    return [
        f"{_recipe(trial)} ([record]({record_link(trial)}))",
        trial.seed,
        trial.config.train.n_epochs,
        f"{trial.config.task.validation_size:,}",
        f"**{in_percent(_accuracy(trial))}**",
        in_percent(trial.history[-1]["train_accuracy"]),
        f"`{code_of(trial)}`",
        f"`{trial.run.config_id}`",
        replay_text(trial),
    ]


def _recipe(trial: Record) -> str:
    """Return the preset of a trial, and the keys in which it differs from it."""
    name = trial.environment["preset"] if trial.environment["preset"] in PRESETS else "baseline"
    changed = differences(trial.config, PRESETS[name].config)
    if trial.config.model.match_parameters is not None:
        changed.pop("model.hidden_size", None)  # they were found
    shown = [key for key in changed if of_the_experiment(key) and key not in OWN_COLUMNS]
    return ", ".join([f"`{name}`", *(f"`{key} {value_text(changed[key])}`" for key in shown)])
