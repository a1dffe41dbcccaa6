"""Generated section: the trials, by which recipes were chosen."""

from __future__ import annotations

from typing import Any

from ..config import PRESETS, differences, of_the_experiment, value_text
from ..system import markdown_table
from .board import Board
from .records import Record
from .sections_accuracy import code_of, record_link, replay_text
from .seed_statistics import percent

OWN_COLUMNS = ("task.validation_size", "test.enabled", "train.n_epochs")


def trials_table(board: Board) -> str:
    """One row per trial; of those with one pixel order and as many epochs, the best first."""
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
    return markdown_table(head, [_trial_row(trial) for trial in sorted(board.trials, key=_place)])


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
        f"**{percent(_accuracy(trial))}**",
        percent(trial.history[-1]["train_accuracy"]),
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
