"""What the run of a trial came to, and when a trial is stopped."""

from __future__ import annotations

from typing import Any

from ..system import InputError
from ..train import AT_CHANCE, RunDirectory
from .folder import SearchFolder

WORST = 0.0  # score of a trial that diverged


def stop_at_chance(n_epochs: int, history: list[dict[str, Any]]) -> str | None:
    """Return why a run of ``n_epochs`` is stopped: it is at chance after half of its epochs. None where it goes on.

    Averaged weights (``optimizer.ema_momentum``) can be at chance long after the trained ones have left it, so both the
    training and the held-out images have to be at chance.
    """
    at_chance = max(history[-1]["val_accuracy"], history[-1]["train_accuracy"]) < AT_CHANCE
    if at_chance and len(history) < n_epochs <= 2 * len(history):
        return f"at chance after {len(history)} of {n_epochs} epochs"
    return None


def read_row(search: SearchFolder, trial_id: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a trial that has ended, as in ``trials.json``.

    Its keys: ``trial`` (the number, as text), ``status`` (completed, stopped, diverged), ``score`` (held-out accuracy,
    0 to 1), ``epochs``, ``escape_epoch``, ``seconds``, ``values`` (by row of the space) and ``hyperparameters``
    (KerasTuner's).

    Raises:
        InputError: a file of its run is missing or cannot be read.
    """
    run = RunDirectory(search.trial_path(trial_id))
    summary, history = run.summary, run.history()
    if summary is None or len(history) != summary["epochs"]:
        raise InputError(f"{run.path} has lost its summary.json or rows of history.jsonl (restore them)")
    return {
        "trial": trial_id,
        "status": summary["status"],
        "score": WORST if summary["status"] == "diverged" else history[-1]["val_accuracy"],
        "epochs": summary["epochs"],
        "escape_epoch": summary["escape_epoch"],
        "seconds": summary["seconds_total"],
        "values": {key: value for key, value in values.items() if not key.startswith("tuner/")},
        "hyperparameters": values,
    }
