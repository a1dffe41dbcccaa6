"""KerasTuner's oracles, which choose the values of each trial; their files are whole at every moment."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.src.engine import oracle as engine

from ..system import write_atomically
from .folder import ORACLE, SearchFolder
from .space import Dimension

OBJECTIVE = "val_accuracy"
FAILURES = 10  # trials that fail in a row end a search; values that do not suit each other are such failures


class NoLock:
    """In place of KerasTuner's lock of an oracle, which it never releases after an exception. ``Jobs`` has its own."""

    def acquire(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


class AtomicFiles(keras_tuner.Oracle):
    """Writes an oracle's files atomically; KerasTuner truncates a file and then writes it."""

    def save(self) -> None:
        _write(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Any) -> None:
        _write(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())


class RandomOracle(AtomicFiles, keras_tuner.oracles.RandomSearchOracle):
    """Random search."""


class BayesianOracle(AtomicFiles, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimization with a Gaussian process."""


class HyperbandOracle(AtomicFiles, keras_tuner.oracles.HyperbandOracle):
    """Hyperband."""


def make_oracle(search: SearchFolder, max_trials: int) -> keras_tuner.Oracle:
    """Return KerasTuner's oracle of a search, with no trials yet."""
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras_tuner")
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "seed": search.base.train.seed % (2**32 - 1) + 1,  # to KerasTuner a seed of 0 is none
        "hyperparameters": declare_space(search.space),
        "max_consecutive_failed_trials": FAILURES,
    }
    if search.tuner == "hyperband":
        oracle = HyperbandOracle(max_epochs=search.base.train.n_epochs, **shared)
        oracle.max_trials = max_trials  # no argument of its own: Hyperband sets the number by its brackets
    elif search.tuner == "bayesian":
        oracle = BayesianOracle(max_trials=max_trials, **shared)
    else:
        oracle = RandomOracle(max_trials=max_trials, **shared)
    oracle.verbose = 0
    engine.LOCKS[oracle] = NoLock()
    oracle._set_project_dir(str(search.path), ORACLE)
    return oracle


def declare_space(space: Sequence[Dimension]) -> keras_tuner.HyperParameters:
    """Return a search space as KerasTuner's hyperparameters."""
    hp = keras_tuner.HyperParameters()

    def declare_row(row: Dimension) -> None:
        sampling = "log" if row.log else "linear"
        if row.choices:
            hp.Choice(row.name, list(row.choices))
        elif row.integer:
            hp.Int(row.name, int(row.low or 0), int(row.high or 0), sampling=sampling)
        else:
            hp.Float(row.name, row.low, row.high, sampling=sampling)

    for row in space:
        if row.only_with:
            with hp.conditional_scope(row.only_with[0], [row.only_with[1]]):
                declare_row(row)
        else:
            declare_row(row)
    return hp


def _write(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(document).encode())
