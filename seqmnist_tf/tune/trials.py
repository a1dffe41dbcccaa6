"""The trials of a search: each is a run of ``train``."""

from __future__ import annotations

from typing import Any

from .. import config as cfg
from ..system import note
from ..train import AT_CHANCE, RunDirectory, StopRule, resume, train
from .folder import SearchFolder, outcome


def stop_at_chance(n_epochs: int) -> StopRule:
    """Return the rule that stops a run of ``n_epochs`` which has been at chance for half of its epochs."""

    def rule(history: list[dict[str, Any]]) -> str | None:
        at_chance = history[-1]["val_accuracy"] < AT_CHANCE
        if at_chance and len(history) < n_epochs <= 2 * len(history):
            return f"at chance after {len(history)} of {n_epochs} epochs"
        return None

    return rule


def run_trial(search: SearchFolder, trial_id: str, values: dict[str, Any], threads: int, command: str) -> float:
    """Train a trial to its end, from its last checkpoint if it had begun, and return its score.

    Args:
        search: the search.
        trial_id: name of the trial's run directory.
        values: KerasTuner's hyperparameters.
        threads: ``train.threads``; 0 leaves the configuration's.
        command: the command line, for the record.

    Returns:
        The validation accuracy of the last epoch, 0 to 1; 0 where the run diverged.

    Raises:
        KeyboardInterrupt: the run was interrupted.
    """
    config = cfg.with_values(search.config(values), {"train.threads": threads} if threads else {})
    path = search.trial_path(trial_id)
    run = RunDirectory(path)
    ended = outcome(run)
    if ended is None:
        rule = stop_at_chance(config.train.n_epochs)
        if path.is_dir():
            resume(path, command=command, stop_rule=rule)
        else:
            train(config, path, preset=search.preset, command=command, stop_rule=rule)
        ended = outcome(run)
        if ended is None:
            raise KeyboardInterrupt
    status, score = ended
    if status != "completed":
        reason = (run.summary or {}).get("reason")
        note(f"trial {trial_id}: {status}{f' ({reason})' if reason else ''}")
    return score
