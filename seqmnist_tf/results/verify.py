"""The checks of records. Each function returns a list of problems, one line each; empty if all is well.

:func:`record_problems` checks one record, or trial, :func:`folder_problems` all of them, :func:`all_model_problems`
their models.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from ..config import PRESETS, Config, config_id, is_trial, preset, with_values
from ..model import match_units
from ..system import InputError, read_json_object
from ..train import PREDICTIONS_FILE, RunDirectory, log_problems
from .formats import environment_problems, layer_problems, text_problems
from .model_check import ModelCheck
from .origin import origin_problems
from .records import (
    OF_COMPLETED_RUNS,
    RECORD_FOLDERS,
    REPLAYS_FILE,
    SEARCHES,
    TRIAL_FOLDERS,
    TRIALS,
    Record,
    all_records,
    all_trials,
    folders_of,
    layout_problems,
    read_replays,
    record_name,
    require_name,
)
from .search_check import search_problems
from .searches import read_searches
from .store import manifest_problems


def record_problems(path: Path, root: Path) -> list[str]:
    """Return what keeps the folder of a record from being published in the clone at ``root``; no model is loaded."""
    if problems := layout_problems(path):
        return problems
    try:
        return _format_problems(path) or _content_problems(path, root)
    except InputError as error:
        return [str(error)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        return [f"its files are not in the format of a run directory ({type(error).__name__}: {error})"]


def _format_problems(path: Path) -> list[str]:
    """Return the files of a record that are not in their format, or whose text is not fit to be shown."""
    documents = {name: read_json_object(path / name) for name in ("config.json", "environment.json", "summary.json")}
    layer = RunDirectory(path).layer_file
    return [
        *(problem for name, document in documents.items() for problem in text_problems(name, document)),
        *text_problems(REPLAYS_FILE, read_replays(path)),
        *environment_problems(documents["environment.json"]),
        *(problem for name, text in (layer.files if layer else {}).items() for problem in layer_problems(text, name)),
    ]


def _content_problems(path: Path, root: Path) -> list[str]:
    """Return where the files of a record contradict each other, or the clone."""
    record = Record.read(path)
    environment, seed = record.environment, record.seed
    origin = origin_problems(record.run, environment, record.summary, root)
    if record.summary.get("status") not in ("completed", "diverged"):
        return origin  # its results have another form
    problems = [*_place_problems(path, record.config, record.config_id), *origin, *log_problems(record.run)]
    if environment["config_id"] != record.config_id:
        problems.append("config_id in environment.json does not match config.json")
    if environment.get("seed", seed) != seed:
        problems.append("seed in environment.json does not match config.json")
    if record.diverged:
        problems += [f"{name} is of a run that diverged" for name in OF_COMPLETED_RUNS if (path / name).exists()]
        problems += ["summary.json has no reason"] * (type(record.summary.get("reason")) is not str)
    elif not (path / "model.keras").exists():
        problems.append("model.keras is missing")
    if not problems and (path / PREDICTIONS_FILE).exists():
        record.predictions()  # raises InputError, as in compare; a run of version 0.1.0 lacks the file
    whole = len(record.history) * record.config.steps_per_epoch
    steps = len(record.run.step_losses()) if record.diverged else whole
    return problems + [
        f"record.json has a replay of {entry['batches']:,} batches, more than steps.csv"
        for entry in record.replays
        if entry["batches"] > steps
    ]


def _place_problems(path: Path, config: Config, experiment: str) -> list[str]:
    """Return whether a trial is elsewhere than in ``trials/<config_id>``, or another record in the place of trials."""
    name = record_name(path)
    if name == f"{TRIALS}/{experiment}" if is_trial(config) else name.split("/")[0] != TRIALS:
        return []
    return [f"a trial, and nothing else, must be in {TRIALS}/<config_id> (its config_id is {experiment})"]


def folder_problems(folder: Path, *, records_only: bool = False) -> list[str]:
    """Return where a results folder contradicts its manifest, and where records contradict themselves or each other.

    ``records_only`` ignores the benchmarks, the literature and the pictures.
    """
    if problems := manifest_problems(folder, records_only=records_only):
        return problems
    paths = [path for pattern in (RECORD_FOLDERS, TRIAL_FOLDERS) for path in folders_of(folder, pattern)]
    problems = [f"{path}: {problem}" for path in paths for problem in record_problems(path, folder.parent)]
    files = sorted(path for path in (folder / SEARCHES).glob("*") if path.name[0] != ".")
    problems += [f"{path}: {problem}" for path in files for problem in search_problems(path, folder.parent)]
    if problems:
        return problems
    records, trials = all_records(folder), all_trials(folder)
    by_name = {record.name: record for record in reversed(records)}
    return [
        *(
            f"{record.run.path}: its folder must be seed{record.seed}, the seed in config.json"
            for record in records + trials
            if record.run.path.name != f"seed{record.seed}"
        ),
        *(
            f"{record.run.path}: {PREDICTIONS_FILE} is missing"  # which add writes
            for record in records
            if not record.diverged and not (record.run.path / PREDICTIONS_FILE).exists()
        ),
        *(
            f"{record.run.path}: {problem}"
            for record in by_name.values()
            for problem in name_problems(record, [other for other in records if other is not record])
        ),
        *(
            f"{record.run.path}: {problem}"
            for other, record in combinations(records + trials, 2)
            for problem in history_problem(record, other)
        ),
        *(
            f"{search.path}: it is {other.path.name} under another name"
            for other, search in combinations(read_searches(folder), 2)
            if search.is_same(other)
        ),
    ]


def name_problems(record: Record, others: Iterable[Record]) -> list[str]:
    """Return whether a record's name belongs to another experiment, or its experiment to another name.

    A name of a preset is for runs of that preset, and one experiment has one name: else its best seeds could stand
    apart from the others, which are published. Settings that change nothing make no other experiment, but runs that
    were told to train on stock Keras may have a name of their own.
    """
    try:
        require_name(record.name)
    except InputError as error:
        return [str(error)]
    own = record.config_id
    names = [(other.name, other.config_id) for other in others]
    for name in PRESETS:
        config = preset(name)
        if config.model.match_parameters is not None:  # with the units that were found for the run
            config = with_values(config, {"model.hidden_size": record.config.model.hidden_size})
        names.append((name, config_id(config)))
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
    on_stock_keras = " on stock Keras" * (record.config.train.kernel == "keras")
    return config_id(record.config, record.run.layer_file) + on_stock_keras


@functools.cache
def _preset_experiment(config: Config) -> str:
    return config_id(match_units(config))


def history_problem(record: Record, other: Record) -> list[str]:
    """Return whether a record has the history of another one.

    No two seeds share the losses of an epoch. With one seed, two experiments can share those of their first epochs,
    such as one of them with more epochs, but not all.
    """
    keys = ["train_loss", "test_loss"]
    if record.seed == other.seed:
        keys.append("val_loss")  # averaged weights have the training losses of the others
    losses = [[tuple(row.get(key) for key in keys) for row in one.history] for one in (record, other)]
    if (losses[0] == losses[1] and losses[0]) or (record.seed != other.seed and set(losses[0]) & set(losses[1])):
        return [f"its history is of {other.run.path}"]
    return []


def all_model_problems(records: list[Record], *, allow_code: bool = False) -> list[str]:
    """Load the model of each record and return how it contradicts the record, or is the model of another record."""
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
