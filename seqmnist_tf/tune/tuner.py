"""KerasTuner's tuner over a search, each trial of which is a run of ``train``. The only importer of keras_tuner."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import grpc
import keras
import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner

from ..system import RunError, first_line
from .folder import ORACLE, SearchFolder
from .progress import TrialReporter
from .space import Dimension
from .trials import run_trial


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


def make_oracle(search: SearchFolder, max_trials: int) -> keras_tuner.Oracle:
    """Return KerasTuner's oracle of a search, which chooses the values of each trial."""
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective("val_accuracy", "max"),
        "seed": search.base.train.seed + 1,  # to KerasTuner a seed of 0 is none
        "hyperparameters": declare_space(search.space),
    }
    if search.tuner == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(max_epochs=search.base.train.n_epochs, **shared)
        oracle.max_trials = max_trials  # no argument of its own: Hyperband sets the number by its brackets
        return oracle
    if search.tuner == "bayesian":
        return keras_tuner.oracles.BayesianOptimizationOracle(max_trials=max_trials, **shared)
    return keras_tuner.oracles.RandomSearchOracle(max_trials=max_trials, **shared)


def make_tuner(search: SearchFolder, max_trials: int, threads: int, command: str) -> BaseTuner:
    """Return KerasTuner's tuner of a search; environment variables give its role in a distributed search."""
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras_tuner")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each trial traces a model again
    reporter = TrialReporter(search, max_trials)

    class Tuner(BaseTuner):
        """KerasTuner's loop over trials, each of which is a run of ``train``."""

        def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
            keras.utils.clear_session()
            try:
                score = run_trial(search, trial.trial_id, dict(trial.hyperparameters.values), threads, command)
            except (RunError, OSError) as error:
                raise keras_tuner.errors.FatalError(str(error)) from error
            return {"val_accuracy": score}

        def save_model(self, *_: Any, **__: Any) -> None:
            """Do nothing: the run directory holds the model."""

        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            if "KERASTUNER_ORACLE_IP" not in os.environ:
                reporter.report_new()

    return Tuner(make_oracle(search, max_trials), directory=str(search.path), project_name=ORACLE)


def run_tuner(tuner: BaseTuner, oracle: str | None) -> None:
    """Run a tuner to the end of its search.

    Args:
        tuner: made by :func:`make_tuner`.
        oracle: the chief's address in a distributed search, for messages.

    Raises:
        RunError: the chief does not answer any more, or trials fail.
    """
    try:
        tuner.search(verbose=0)
    except grpc.RpcError:
        raise RunError(f"the chief at {oracle} does not answer (the same commands resume the search)") from None
    except (keras_tuner.errors.FatalError, RuntimeError) as error:
        raise RunError(f"the search cannot continue: {first_line(error)} (the same command resumes it)") from None
