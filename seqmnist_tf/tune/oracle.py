"""KerasTuner's oracles, which choose the values of each trial, and their state: one file, whole at every moment."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from ..system import read_json_object, reading, write_atomically
from .space import ORACLE, Dimension, SearchFolder

OBJECTIVE = "val_accuracy"
OVER = ("COMPLETED", "FAILED")


class OneFile(keras_tuner.Oracle):
    """Keeps the oracle's state and its trials in one file.

    KerasTuner has a file for each trial and one for the rest, which a kill leaves in contradiction, and empties a file
    before it writes it.
    """

    file: Path
    texts: dict[str, str]  # of the trials, in JSON: all are written each time, and few have changed

    def _save_trial(self, trial: Trial) -> None:
        """Take note of a trial that has changed. KerasTuner calls :meth:`save` after that."""
        row = {"status": trial.status, "score": trial.score, "message": trial.message}
        self.texts[trial.trial_id] = json.dumps({**row, "values": trial.hyperparameters.values}, allow_nan=False)

    def save(self) -> None:
        """Write the file."""
        trials = ",\n".join(f'"{trial_id}": {text}' for trial_id, text in self.texts.items())
        text = f'{{"oracle": {json.dumps(self.get_state())},\n"trials": {{\n{trials}\n}}}}\n'
        write_atomically(self.file, text.encode())


class RandomOracle(OneFile, keras_tuner.oracles.RandomSearchOracle):
    """Random search: the values of a trial follow from the seed and the number of the trial."""


class HyperbandOracle(OneFile, keras_tuner.oracles.HyperbandOracle):
    """Hyperband."""


class BayesianOracle(OneFile, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimization with a Gaussian process."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of a trial.

        Random numbers follow from the number of the trial: KerasTuner would repeat the first ones after each start of
        the command. At the high end of a range KerasTuner may come out above it, such as at 257 of 256.
        """
        self._random_state = np.random.RandomState((self.seed + int(trial_id)) % 2**32)
        chosen: dict[str, Any] = super().populate_space(trial_id)
        ends = {hp.name: hp.max_value for hp in self.hyperparameters.space if hasattr(hp, "max_value")}
        for name, value in (chosen["values"] or {}).items():
            chosen["values"][name] = min(value, ends.get(name, value))
        return chosen


def make_oracle(search: SearchFolder, max_trials: int) -> OneFile:
    """Return the oracle of a search, with no trials yet."""
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras_tuner")
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "seed": search.base.train.seed % (2**32 - 1) + 1,  # to KerasTuner a seed of 0 is none
        "hyperparameters": declare_space(search.space),
        # Never: its error comes before the state is saved. SearchJobs counts failures.
        "max_consecutive_failed_trials": 10**9,
    }
    oracle: OneFile
    match search.tuner:
        case "random":
            oracle = RandomOracle(max_trials=max_trials, **shared)
        case "bayesian":
            oracle = BayesianOracle(max_trials=max_trials, **shared)
        case _:
            oracle = HyperbandOracle(max_epochs=search.base.train.n_epochs, **shared)
            oracle.max_trials = max_trials  # no argument: Hyperband sets the number by its brackets
    oracle.verbose = 0
    oracle._max_collisions = 10_000  # after 20 values drawn before, KerasTuner leaves the rest of a small space
    oracle.file = search.path / ORACLE
    oracle.texts = {}
    return oracle


def drawn_values(search: SearchFolder, number: int) -> list[dict[str, Any]] | None:
    """Return the values of the first trials of a random search, which follow from its seed; None for another tuner."""
    oracle = make_oracle(search, number)
    if not isinstance(oracle, RandomOracle):
        return None
    oracle.save = lambda: None  # type: ignore[method-assign]
    trials = [oracle.create_trial(f"slot{trial}") for trial in range(number)]
    return [trial.hyperparameters.values for trial in trials if trial.status == "RUNNING"]


def declare_space(space: Sequence[Dimension]) -> keras_tuner.HyperParameters:
    """Return a search space as KerasTuner's hyperparameters; raise InputError where KerasTuner refuses it."""
    hp = keras_tuner.HyperParameters()
    for row in space:
        with contextlib.ExitStack() as stack:
            stack.enter_context(reading(f"{row.name} in the search space"))
            if row.only_with:
                stack.enter_context(hp.conditional_scope(row.only_with[0], [row.only_with[1]]))
            if row.choices:
                hp.Choice(row.name, list(row.choices))
            else:
                (hp.Int if row.integer else hp.Float)(row.name, row.low, row.high, sampling=row.scale)
    return hp


def load_oracle(search: SearchFolder, max_trials: int) -> OneFile:
    """Return the oracle of a search with its trials so far; those that have not ended wait in its queue."""
    oracle = make_oracle(search, max_trials)
    if not (search.path / ORACLE).exists():
        return oracle
    document = read_json_object(search.path / ORACLE)
    for trial_id, row in document["trials"].items():
        hyperparameters = oracle.hyperparameters.copy()
        hyperparameters.values = row["values"]
        trial = Trial(hyperparameters, trial_id, row["status"], row["message"])
        trial.score = row["score"]
        oracle.trials[trial_id] = trial
        oracle._save_trial(trial)
    state = document["oracle"]
    state["hyperparameters"] = oracle.hyperparameters.get_config()
    state["ongoing_trials"] = {}
    waiting = [trial_id for trial_id, trial in oracle.trials.items() if trial.status not in OVER]
    state["retry_queue"] = waiting[::-1]  # the last one is the next
    oracle.set_state(state)
    return oracle
