"""The state of Hyperband, rebuilt from its trials.

A trial of round 0 has values of its own. A trial of a later round has the values of a trial of the round before, and
more epochs (Li et al., "Hyperband", JMLR 18, 2018).
"""

from __future__ import annotations

from typing import Any

from .oracle import HyperbandOracle


def rebuild_brackets(oracle: HyperbandOracle) -> None:
    """Set an oracle's brackets to what its trials say."""
    top = oracle._get_num_brackets() - 1
    rounds: dict[int, list[list[dict[str, Any]]]] = {}
    bracket_of: dict[str, int] = {}
    for trial_id in sorted(oracle.trials, key=int):
        values = oracle.trials[trial_id].hyperparameters.values
        if not {"tuner/round", "tuner/bracket"} <= set(values):
            continue
        past, number = values.get("tuner/trial_id"), int(values["tuner/round"])
        bracket = bracket_of.get(str(past), int(values["tuner/bracket"]))
        if not 0 <= number <= bracket <= top:
            continue
        bracket_of[trial_id] = bracket
        rounds.setdefault(bracket, [[] for _ in range(bracket + 1)])[number].append({"past_id": past, "id": trial_id})
    oracle._current_bracket = min(rounds, default=top)
    oracle._brackets = [
        {"bracket_num": bracket, "rounds": rounds.get(bracket, [[] for _ in range(bracket + 1)])}
        for bracket in range(top, oracle._current_bracket - 1, -1)
    ]


def add_round(oracle: HyperbandOracle, values: dict[str, Any]) -> None:
    """Add to a trial's values its round and bracket, which follow from the trials before it and its epochs."""
    own, epochs = _without_round(values), values["tuner/epochs"]
    before = [
        trial
        for trial in oracle.trials.values()
        if _without_round(trial.hyperparameters.values) == own
        and "tuner/round" in trial.hyperparameters.values
        and trial.hyperparameters.values["tuner/epochs"] < epochs
    ]
    if before:
        past = max(before, key=lambda trial: trial.hyperparameters.values["tuner/epochs"])
        was = past.hyperparameters.values
        values.update(
            {
                "tuner/trial_id": past.trial_id,
                "tuner/initial_epoch": was["tuner/epochs"],
                "tuner/bracket": was["tuner/bracket"],
                "tuner/round": was["tuner/round"] + 1,
            }
        )
        return
    brackets = range(oracle._get_num_brackets())
    bracket = min(brackets, key=lambda bracket: abs(oracle._get_epochs(bracket, 0) - epochs))
    values.update({"tuner/initial_epoch": 0, "tuner/bracket": bracket, "tuner/round": 0})


def _without_round(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("tuner/")}
