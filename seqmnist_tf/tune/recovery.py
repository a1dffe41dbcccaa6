"""A search's oracle, loaded from its folder.

The trials are the truth: each file ``trial.json``, and where one is damaged, the trial's run directory. Of
``oracle.json`` only the state of the random numbers and the workers' trials are read; all else follows from the trials.
So no kill at any moment, and no damaged file, ends a search.
"""

from __future__ import annotations

import copy
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from ..system import InputError, note
from ..train import RunDirectory
from .brackets import add_round, rebuild_brackets
from .folder import ORACLE, SearchFolder, read_object
from .oracle import OBJECTIVE, HyperbandOracle, make_oracle
from .outcomes import outcome

OVER = ("COMPLETED", "FAILED")
UNREADABLE = (InputError, OSError, ValueError, KeyError, TypeError, AttributeError)


def load_oracle(search: SearchFolder, max_trials: int, keep_workers: bool = False) -> keras_tuner.Oracle:
    """Return the oracle of a search with its trials so far; those that had not ended wait in its queue.

    Args:
        search: the search.
        max_trials: maximum number of trials.
        keep_workers: a worker that had a trial keeps it, instead of the queue.
    """
    oracle = make_oracle(search, max_trials)
    state = read_object(search.path / ORACLE / "oracle.json")
    numbers = _trial_numbers(search)
    if state is None and numbers:
        note(f"{search.path / ORACLE / 'oracle.json'} cannot be read: it is rebuilt from the trials")
    for number in sorted(numbers):
        trial_id = numbers[number]
        trial = _read_trial(search, trial_id) or _rebuild_trial(search, oracle, trial_id)
        if trial is not None:
            oracle.trials[trial_id] = trial
    _restore_state(oracle, state or {}, keep_workers)
    _fill_gaps(search, oracle, numbers)
    if numbers:
        oracle.save()
    return oracle


def _trial_numbers(search: SearchFolder) -> dict[int, str]:
    """Return the ids of all trials that the folder knows of, by their numbers."""
    folders = [path.name.removeprefix("trial_") for path in (search.path / ORACLE).glob("trial_*")]
    runs = [path.name for path in (search.path / "trials").glob("*") if path.is_dir()]
    return {int(name): name for name in (*runs, *folders) if name.isdecimal()}


def _read_trial(search: SearchFolder, trial_id: str) -> Trial | None:
    """Return a trial from its file, None where that cannot be read; a trial whose run has not ended is running."""
    file = search.path / ORACLE / f"trial_{trial_id}" / "trial.json"
    try:
        trial = Trial.from_state(read_object(file))
        if trial.status != "FAILED":
            search.config(trial.hyperparameters.values)
        if trial.trial_id != trial_id or not (trial.hyperparameters.values or trial.status == "FAILED"):
            raise ValueError("another trial")
    except UNREADABLE:
        note(f"{file} cannot be read")
        return None
    if trial.status not in OVER or (trial.status == "COMPLETED" and not _has_result(search, trial)):
        trial.status = "RUNNING"
    return trial


def _has_result(search: SearchFolder, trial: Trial) -> bool:
    """Return whether a trial's score and the summary of its run can be read."""
    run = RunDirectory(search.trial_path(trial.trial_id))
    try:
        if isinstance(trial.score, float | int) and run.summary is not None:
            outcome(run)
            return True
    except UNREADABLE as error:
        note(f"trial {trial.trial_id} is finished again: {error}")
        return False
    note(f"trial {trial.trial_id} is finished again: {run.path} has no summary.json")
    return False


def _rebuild_trial(search: SearchFolder, oracle: keras_tuner.Oracle, trial_id: str) -> Trial | None:
    """Return a trial with the values and the result of its run; None where the run cannot be read."""
    run = RunDirectory(search.trial_path(trial_id))
    try:
        values = search.values_of(run.config)
    except UNREADABLE:
        values = None
    if values is None:
        return None
    if isinstance(oracle, HyperbandOracle):
        add_round(oracle, values)
    trial = Trial(_with_values(oracle, values), trial_id=trial_id)
    try:
        ended = outcome(run)
    except UNREADABLE:
        ended = None
    if ended is not None:
        trial.status, trial.score = "COMPLETED", ended[1]
        trial.metrics.register(OBJECTIVE, "max")
        trial.metrics.update(OBJECTIVE, ended[1])
    oracle._save_trial(trial)
    note(f"trial {trial_id} is rebuilt from its run directory")
    return trial


def _with_values(oracle: keras_tuner.Oracle, values: dict[str, Any]) -> keras_tuner.HyperParameters:
    hyperparameters = oracle.hyperparameters.copy()
    hyperparameters.values = copy.copy(values)
    return hyperparameters


def _restore_state(oracle: keras_tuner.Oracle, state: dict[str, Any], keep_workers: bool) -> None:
    """Set what an oracle knows besides its trials: order, queue, hashes, brackets, random numbers."""
    oracle.start_order = list(oracle.trials)
    ended = [trial_id for trial_id, trial in oracle.trials.items() if trial.status in OVER]
    order = state.get("end_order")
    known = [trial_id for trial_id in order if trial_id in ended] if isinstance(order, list) else []
    oracle.end_order = [*known, *(trial_id for trial_id in ended if trial_id not in known)]
    oracle._run_times.update(dict.fromkeys(ended, 1))
    for trial in oracle.trials.values():
        oracle._record_values(trial)
    seed_state = state.get("seed_state")
    oracle._seed_state = seed_state if isinstance(seed_state, int) else _draws(oracle)
    workers = state.get("ongoing_trials")
    if keep_workers and isinstance(workers, dict):
        running = {trial_id: trial for trial_id, trial in oracle.trials.items() if trial.status == "RUNNING"}
        oracle.ongoing_trials = {name: running[str(key)] for name, key in workers.items() if str(key) in running}
    taken = {trial.trial_id for trial in oracle.ongoing_trials.values()}
    # KerasTuner takes the last one first.
    waiting = (key for key, trial in oracle.trials.items() if trial.status == "RUNNING" and key not in taken)
    oracle._retry_queue = sorted(waiting, key=int, reverse=True)
    if isinstance(oracle, HyperbandOracle):
        rebuild_brackets(oracle)


def _draws(oracle: keras_tuner.Oracle) -> int:
    """Return the state of the random numbers after the trials' values were drawn, one number a value."""
    drawn = (trial.hyperparameters.values for trial in oracle.trials.values())
    numbers = [sum(not key.startswith("tuner/") for key in values) for values in drawn if not values.get("tuner/round")]
    return int(oracle.seed) + sum(numbers)


def _fill_gaps(search: SearchFolder, oracle: keras_tuner.Oracle, numbers: dict[int, str]) -> None:
    """Give new values to trials that were never begun and whose values are lost; KerasTuner counts without gaps."""
    width = len(str(max(numbers, default=0)))
    have = {int(trial_id) for trial_id in oracle.trials}
    for number in sorted(set(range(max(have, default=-1) + 1)) - have):
        trial_id = numbers.get(number, str(number).zfill(width))
        # Not the Bayesian choice: it does not know trials that wait in the queue.
        chosen = oracle.populate_space(trial_id).get("values") if isinstance(oracle, HyperbandOracle) else None
        values = chosen or oracle._random_values()
        trial = Trial(_with_values(oracle, values or {}), trial_id=trial_id)
        if values:
            note(f"trial {trial_id} has lost its values, and gets new ones")
            oracle._record_values(trial)
            oracle._retry_queue.insert(0, trial_id)
        else:
            note(f"trial {trial_id} has lost its values, and the search space has no others left")
            trial.status = "FAILED"
            oracle.end_order.append(trial_id)
        oracle.trials[trial_id] = trial
        oracle._save_trial(trial)
    oracle.start_order = sorted(oracle.trials, key=int)
    oracle.trials = {trial_id: oracle.trials[trial_id] for trial_id in oracle.start_order}
