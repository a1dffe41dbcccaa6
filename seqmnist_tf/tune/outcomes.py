"""What came of the trials of a search: their scores, and the best one."""

from __future__ import annotations

from typing import Any

from ..config import Config
from ..system import InputError
from ..train import RunDirectory
from .folder import ORACLE, SearchFolder, on_all_images, read_object
from .space import apply_values

WORST = 0.0  # score of a trial that diverged
OF_A_SUMMARY = ("status", "epochs", "escape_epoch", "seconds_total")


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


def read_trials(search: SearchFolder) -> list[dict[str, Any]]:
    """Return a row for each trial that has ended, in the order of their numbers.

    Its keys: ``trial`` (the number, as text), ``status``, ``score`` (held-out accuracy, 0 to 1), ``epochs``,
    ``escape_epoch``, ``seconds``, ``values`` (by configuration key) and ``hyperparameters`` (KerasTuner's).
    A trial whose files cannot be read is left out: it is being written, and is read the next time.
    """
    rows = []
    for folder in (search.path / ORACLE).glob("trial_*"):
        try:
            row = _trial_row(search, read_object(folder / "trial.json"))
        except (InputError, OSError, KeyError, TypeError, AttributeError):
            continue
        if row:
            rows.append(row)
    return sorted(rows, key=lambda row: int(row["trial"]))


def failed_trials(search: SearchFolder) -> dict[str, str]:
    """Return why each trial without a score failed, by its number, in the order of the numbers."""
    failed = {}
    for path in (search.path / ORACLE).glob("trial_*/trial.json"):
        number, trial = path.parent.name.removeprefix("trial_"), read_object(path) or {}
        if number.isdecimal() and trial.get("status") == "FAILED":
            failed[number] = str(trial.get("message") or "its values were lost")
    return {number: failed[number] for number in sorted(failed, key=int)}


def _trial_row(search: SearchFolder, trial: dict[str, Any] | None) -> dict[str, Any] | None:
    if trial is None or trial["status"] != "COMPLETED" or not str(trial["trial_id"]).isdecimal():
        return None
    run = RunDirectory(search.trial_path(trial["trial_id"]))
    summary = run.summary
    if summary is None:
        return None
    # A trial that version 0.1.0 stopped at chance has the status "interrupted"; KerasTuner has its score.
    status, score = outcome(run) or ("stopped", float(trial["score"]))
    values = trial["hyperparameters"]["values"]
    return {
        "trial": trial["trial_id"],
        "status": status,
        "score": score,
        "epochs": summary["epochs"],
        "escape_epoch": summary["escape_epoch"],
        "seconds": summary["seconds_total"],
        "values": {key: value for key, value in values.items() if not key.startswith("tuner/")},
        "hyperparameters": values,
    }


def best_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row with the highest score, the first among equal ones."""
    return max(rows, key=lambda row: row["score"])


def best_config(search: SearchFolder, row: dict[str, Any]) -> Config:
    """Return the result of a search: the best trial's configuration, on all training images, with the test set."""
    return on_all_images(apply_values(search.space, row["values"], search.base))
