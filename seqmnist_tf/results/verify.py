"""The checks of records. Each function returns a list of problems, one line each; empty if all is well.

:func:`record_problems` checks one record, or trial, :func:`folder_problems` all of them, :func:`all_model_problems`
their models.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from ..config import PRESETS, Config, config_id, effective, is_trial, preset
from ..model import match_units
from ..system import InputError
from ..train import LAYER_FILE, PREDICTIONS_FILE
from .history import history_problems, prediction_problems, summary_problems
from .layout import RECORD_FOLDERS, TRIAL_FOLDERS, TRIALS, layout_problems, record_name
from .manifest import manifest_problems
from .model_check import ModelCheck
from .origin import origin_problems
from .records import Record, all_trials, folders_of, read_records
from .replays import read_replays
from .wellformed import (
    environment_problems,
    layer_problems,
    read_json_rows,
    read_strict_object,
    text_problems,
)


def record_problems(path: Path, root: Path) -> list[str]:
    """Return what keeps the folder of a record from being published; its model is not loaded.

    Args:
        path: the folder.
        root: the root of the clone.
    """
    if problems := layout_problems(path):
        return problems
    try:
        return _format_problems(path) or _content_problems(path, root)
    except InputError as error:
        return [str(error)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        return [f"its files are not in the format of a run directory ({type(error).__name__}: {error})"]


def folder_problems(folder: Path, *, records_only: bool = False) -> list[str]:
    """Return where a results folder contradicts its manifest, and where records contradict themselves or each other.

    Args:
        folder: the results folder.
        records_only: ignore the benchmarks, the literature and the pictures.

    Raises:
        InputError: the manifest cannot be read.
    """
    if problems := manifest_problems(folder, records_only=records_only):
        return problems
    paths = [path for pattern in (RECORD_FOLDERS, TRIAL_FOLDERS) for path in folders_of(folder, pattern)]
    problems = [f"{path}: {problem}" for path in paths for problem in record_problems(path, folder.parent)]
    if problems:
        return problems
    by_name, trials = read_records(folder), all_trials(folder)
    records = [record for same in by_name.values() for record in same]
    return [
        *(
            f"{record.run.path}: its folder must be seed{record.seed}, the seed in config.json"
            for record in records + trials
            if record.run.path.name != f"seed{record.seed}"
        ),
        *(
            f"{record.run.path}: {PREDICTIONS_FILE} is missing"  # which add writes
            for record in records
            if not (record.run.path / PREDICTIONS_FILE).exists()
        ),
        *(
            f"{same[0].run.path}: {problem}"
            for same in by_name.values()
            for problem in name_problems(same[0], [other for other in records if other is not same[0]])
        ),
        *(
            f"{record.run.path}: {problem}"
            for other, record in combinations(records + trials, 2)
            for problem in history_problem(record, other)
        ),
    ]


def name_problems(record: Record, others: Iterable[Record]) -> list[str]:
    """Return whether a record's name belongs to another experiment, or its experiment to another name.

    A name of a preset is for runs of that preset, and one experiment has one name: else its best seeds could stand
    apart from the others. Settings that change nothing make no other experiment.

    Args:
        record: the record.
        others: published records.
    """
    own = record.run.config_id
    names = [(other.name, other.run.config_id) for other in others]
    names += [(name, config_id(_with_found_units(preset(name), record.config))) for name in PRESETS]
    if owners := sorted({owner for name, owner in names if name == record.name} - {own}):
        return [
            f"the name {record.name} is of configuration {', '.join(owners)}, but this run has configuration "
            f"{own} (give another --name)"
        ]
    experiment = _experiment(record)
    same = [other.name for other in others if _experiment(other) == experiment]
    same += [name for name in PRESETS if _preset_experiment(preset(name)) == experiment]
    if used := [name for name in same if name != record.name]:
        return [f"its configuration {own} is that of {used[0]} (give --name {used[0]}, and no setting that differs)"]
    return []


def _experiment(record: Record) -> str:
    source = record.run.layer_file.read_bytes() if record.run.layer_file else None
    return config_id(effective(record.config), source)


@functools.cache
def _preset_experiment(config: Config) -> str:
    return config_id(effective(match_units(config)))


def _with_found_units(config: Config, run_config: Config) -> Config:
    """Return a preset with the units that ``model.match_parameters`` found for a run of it."""
    if config.model.match_parameters is None:
        return config
    return replace(config, model=replace(config.model, hidden_size=run_config.model.hidden_size))


def history_problem(record: Record, other: Record) -> list[str]:
    """Return whether a record has the history of another one.

    No two seeds share the losses of an epoch. With one seed, two experiments can share those of their first epochs,
    such as one of them with more epochs, but not all.
    """
    keys = ["train_loss", "test_loss"]
    if record.seed == other.seed:
        keys.append("val_loss")  # averaged weights have the training losses of the others
    losses = [[tuple(row.get(key) for key in keys) for row in one.history] for one in (record, other)]
    if losses[0] == losses[1] or (record.seed != other.seed and set(losses[0]) & set(losses[1])):
        return [f"its history is of {other.run.path}"]
    return []


def all_model_problems(records: list[Record], *, allow_code: bool = False) -> list[str]:
    """Load the model of each record and return how it contradicts the record, or is the model of another record.

    Raises:
        InputError: the code of a record is not allowed.
        RunError: no source of MNIST could be reached.
    """
    problems: list[str] = []
    owners: dict[str, Record] = {}
    check = ModelCheck(allow_code)
    for record in records:
        try:
            contradictions, digest = check.check(record.run)
        except InputError as error:
            problems.append(str(error))
            continue
        problems += [f"{record.run.path}: {problem}" for problem in contradictions]
        owner = owners.setdefault(digest, record)
        if owner is not record:
            problems.append(f"{record.run.path}: its model is of {owner.run.path}")
    return problems


def _format_problems(path: Path) -> list[str]:
    """Return the files of a record that are not in their format, or whose text is not fit to be shown."""
    problems = []
    for name in ("config.json", "environment.json", "summary.json"):
        problems += text_problems(name, read_strict_object(path / name))
    read_json_rows(path / "history.jsonl")
    read_replays(path)
    return [
        *problems,
        *environment_problems(read_strict_object(path / "environment.json")),
        *layer_problems(path / LAYER_FILE),
    ]


def _content_problems(path: Path, root: Path) -> list[str]:
    """Return where the files of a record contradict each other, or the clone."""
    record = Record.read(path)
    experiment = record.run.config_id
    origin = origin_problems(record.run, record.environment, record.summary, root)
    if record.summary.get("status") != "completed":
        return origin  # its results have another form
    return [
        *_place_problems(path, record.config, experiment),
        *origin,
        *history_problems(record.config, record.history, record.run.steps()),
        *summary_problems(record.config, record.environment, record.summary, record.history, experiment),
        *prediction_problems(path, record.summary["final"]["test_correct"]),
        *(
            f"record.json has a replay of {entry['batches']:,} batches, more than steps.csv"
            for entry in record.replays
            if entry["batches"] > len(record.history) * record.config.steps_per_epoch
        ),
    ]


def _place_problems(path: Path, config: Config, experiment: str) -> list[str]:
    """Return whether a trial is elsewhere than in ``trials/<config_id>``, or another record in the place of trials."""
    name = record_name(path)
    if name == f"{TRIALS}/{experiment}" if is_trial(config) else name.split("/")[0] != TRIALS:
        return []
    return [f"a trial, and nothing else, must be in {TRIALS}/<config_id> (its config_id is {experiment})"]
