"""Publishing a run: its files are copied into the results folder after all checks, without places of the machine."""

from __future__ import annotations

import gzip
import math
import tempfile
from pathlib import Path
from typing import Any

from ..config import LAYER_FILE, has_stock_layer, is_trial
from ..engine import same_experiment
from ..system import InputError, json_bytes, note, read_json_object
from ..train import (
    LOSS_AGREES,
    PACKED_STEPS_FILE,
    PREDICTIONS_FILE,
    RunDirectory,
    load_final_model,
    load_run,
    log_problems,
)
from ..tune import SearchFolder, read_search
from .formats import layer_problems
from .model_check import ModelCheck, evaluation_problems, units_problems, weights_digest
from .origin import ancestor_problems, public_command, public_config, public_layer
from .records import (
    COPIED_FILES,
    REPLAYED_BATCHES,
    REPLAYS_FILE,
    SCHEMA,
    SEARCHES,
    Record,
    all_records,
    all_trials,
    choose_name,
    latest_replays,
    require_name,
)
from .replay import merged_entry, replay_run
from .search_check import row_of, search_problems
from .searches import Search, read_searches
from .store import add_files, is_listed, locked, read_manifest, require_writable, set_files
from .verify import history_problem, name_problems, record_problems


def add_record(run: RunDirectory, name: str | None, folder: Path, *, allow_code: bool = False) -> Path:
    """Publish a finished run under a name and return the folder of its record.

    The files are copied; ``steps.csv`` is compressed, and places of the machine are left out. Before, they are checked
    against each other and against the clone. The first batches are trained anew and must have the recorded losses. The
    model is loaded on stock Keras, where it must classify as many test digits correctly as ``summary.json`` says.

    A trial was scored on held-out training images and never read the test set. Its record is in ``trials/<config_id>``,
    and its model is scored on the held-out images.

    Args:
        run: a run directory.
        name: the preset's name if the run is of a preset; else a new name, or the name of records of the same
            experiment. None for a trial, and only for a trial.
        folder: the results folder, in the root of a clone.
        allow_code: run the code of the run's ``layer.py``.

    Raises:
        InputError: a check fails, the record exists, ``folder`` is not writable, or another process has been publishing
            for minutes; nothing is written.
        RunError: no data.
        OSError: the disk is full.
    """
    require_writable(folder)
    if (run.summary or {}).get("status") != "diverged":
        run.require_model()
    with tempfile.TemporaryDirectory() as temporary:
        staged = RunDirectory(Path(temporary) / choose_name(run, name) / "run")
        try:
            return _publish(run, staged, folder, allow_code)
        except InputError as error:
            # The checks read the copy.
            raise InputError(str(error).replace(str(staged.path), str(run.path))) from None


def _publish(run: RunDirectory, staged: RunDirectory, folder: Path, allow_code: bool) -> Path:
    """Check a copy of a run that has the files of its record, then add these to the results folder."""
    try:
        files = public_files(run)
    except InputError as error:
        raise InputError(f"{run.path} is not published: {error}") from None
    for file, content in files.items():
        (staged.path / file).parent.mkdir(exist_ok=True, parents=True)
        (staged.path / file).write_bytes(content)
    _refuse(run.path, record_problems(staged.path, folder.parent))
    record = Record.read(staged.path)
    path = folder / record.name / f"seed{record.seed}"
    if is_listed(folder, path):
        raise InputError(f"{path} is already published (give another run)")
    _refuse(run.path, ancestor_problems(folder.parent, record.environment["git"]["commit"]))
    _require_own_place(run, record, folder)
    files |= _checked_anew(run, record, folder, allow_code)
    with locked(folder):
        _require_own_place(run, record, folder)  # again: another process may have published since
        add_files(folder, path, files)
    return path


def _require_own_place(run: RunDirectory, record: Record, folder: Path) -> None:
    """Raise InputError where the name, or the history, is that of other records."""
    problems = [] if is_trial(record.config) else name_problems(record, all_records(folder))
    problems += [problem for other in _others(record, folder) for problem in history_problem(record, other)]
    _refuse(run.path, problems)


def _others(record: Record, folder: Path) -> list[Record]:
    """Return the published records and trials, without one in the record's own place, which is not listed."""
    own = (record.name, record.seed)
    return [other for other in all_records(folder) + all_trials(folder) if (other.name, other.seed) != own]


def _checked_anew(run: RunDirectory, record: Record, folder: Path, allow_code: bool) -> dict[str, bytes]:
    """Train the first batches anew and evaluate the model; return the files that a record has beside the run's."""
    record.run.require_code_allowed(allow_code)
    if record.diverged:
        problems = units_problems(record.run)
    else:
        problems, digest = ModelCheck(allow_code).check(record.run)
        problems = problems or _weight_doubles(record, digest, folder, allow_code)
    _refuse(run.path, problems)
    losses = record.run.step_losses()
    note(f"training the first {min(REPLAYED_BATCHES, len(losses))} batches anew")
    replay = replay_run(record.run, losses, allow_code=allow_code)
    _refuse(run.path, replay.problems())
    files = {REPLAYS_FILE: json_bytes(latest_replays([replay.entry()]))}
    if not is_trial(record.config) and not record.diverged:
        problems, files[PREDICTIONS_FILE] = evaluation_problems(record.run, allow_code=allow_code)
        _refuse(run.path, problems)
    return files


def _weight_doubles(record: Record, digest: str, folder: Path, allow_code: bool) -> list[str]:
    """Return whether the model is that of a published record; ``digest`` is of its weights."""
    for other in _others(record, folder):
        allowed = allow_code or has_stock_layer(other.config)
        if not allowed or other.diverged or other.summary.get("num_params") != record.summary["num_params"]:
            continue
        losses = [one.summary["final"].get("test_loss") for one in (record, other)]
        if None not in losses and not math.isclose(*losses, rel_tol=LOSS_AGREES):
            continue  # the loss of each model on the test images is checked
        if weights_digest(load_final_model(other.run, allow_code=allow_code)) == digest:
            return [f"its model is of {other.run.path}"]
    return []


def _refuse(path: Path, problems: list[str]) -> None:
    """Raise InputError with the first of some problems, if there is one."""
    if problems:
        raise InputError(f"{path} is not published: {problems[0]}")


def add_search(path: Path, name: str | None, folder: Path, *, allow_code: bool = False) -> Path:
    """Publish a search that has ended as ``searches/NAME.json`` and return that file.

    Each run is checked as that of a record: its files against each other and the clone, its first batches trained
    anew, and the model of a completed one scored on the held-out images. The test set is not read. Arguments and errors
    as :func:`add_record`.
    """
    target = folder / SEARCHES / f"{require_name(name)}.json"
    require_writable(folder)
    settings, rows = read_search(path)
    runs = {(row["trial"], row["seed"]): load_run(row["path"]) for row in rows if row["status"] != "failed"}
    try:
        document = _search_document(settings, rows, runs)
    except (KeyError, TypeError, AttributeError) as error:
        text = f"environment.json of a run is not in its format ({type(error).__name__}: {error})"
        raise InputError(f"{path} is not published: {text}") from None
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / target.name
        staged.write_bytes(json_bytes(document))
        _refuse(path, search_problems(staged, folder.parent))
        _refuse(path, ancestor_problems(folder.parent, document["environments"][0]["git"]["commit"]))
        made = Search.read(staged)
    _require_new(folder, target, made)
    check, replays = ModelCheck(allow_code), []
    for run in runs.values():
        run.require_code_allowed(allow_code)
        completed = (run.summary or {})["status"] == "completed"
        _refuse(run.path, log_problems(run) or (check.check(run)[0] if completed else units_problems(run)))
        note(f"{run.path}: training the first batches anew")
        replays.append(replay_run(run, run.step_losses(), allow_code=allow_code))
        _refuse(run.path, replays[-1].problems())
    with locked(folder):
        _require_new(folder, target, made)  # again: another process may have published since
        content = json_bytes({**document, "replayed": [merged_entry(replays)]})
        set_files(folder, target.parent, {target.name: content})
    return target


def _require_new(folder: Path, target: Path, made: Search) -> None:
    if f"{SEARCHES}/{target.name}" in read_manifest(folder):
        raise InputError(f"{target} is already published (give another --name)")
    for other in read_searches(folder):
        if other.path != target and other.is_same(made):
            raise InputError(f"{other.path} is the same search (give another --train.seed)")


def _search_document(
    search: SearchFolder, rows: list[dict[str, Any]], runs: dict[tuple[int, int], RunDirectory]
) -> dict[str, Any]:
    """Return the content of the file of a search; ``runs`` are those of its rows, by trial and seed."""
    layers: dict[str, str] = {}
    environments: list[dict[str, Any]] = []
    trials = []
    for row in rows:
        if (run := runs.get((row["trial"], row["seed"]))) is None:
            trials.append(row)
            continue
        if not same_experiment(search.config(row["values"]), run, run.layer_file):
            _refuse(run.path, ["its configuration is not that of its values"])
        if run.layer_file:
            content = run.layer_file.content
            _refuse(run.path, layer_problems(content))
            if layers.setdefault(public_layer(run.config.model.layer), text := content.decode()) != text:
                _refuse(run.path, [f"its {LAYER_FILE} is not that of the other trials"])
        trials.append(row_of(row, run, environments))
    preset = next(iter(runs.values())).environment["preset"]
    shared = {"schema": SCHEMA, "tuner": search.tuner, "preset": preset, "base": public_config(search.document["base"])}
    if not search.stops:
        shared["stops"] = False
    own = {"space": search.space_document, "layers": layers, "environments": environments, "trials": trials}
    return {**shared, **own, "replayed": []}


def public_files(run: RunDirectory) -> dict[str, bytes]:
    """Return the files of a run's record by name, from a run directory or a record; without those that it lacks.

    Places of the machine are replaced, in the configuration and in commands. Everything else is unchanged.
    """
    files = {}
    tested = () if is_trial(run.config) else (PREDICTIONS_FILE,)
    for name in (*COPIED_FILES, *tested, *(run.layer_file.files if run.layer_file else ())):
        try:
            if (run.path / name).is_file():
                files[name] = (run.path / name).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {run.path / name}: {error.strerror}") from None
    if any((run.path / name).is_file() for name in ("steps.csv", PACKED_STEPS_FILE)):
        files[PACKED_STEPS_FILE] = gzip.compress(run.steps_csv(), mtime=0)
    config = read_json_object(run.path / "config.json")
    if (published := public_config(config)) != config:
        files["config.json"] = json_bytes(published)
    if "environment.json" in files:
        environment = read_json_object(run.path / "environment.json")
        if (published := _public_environment(environment)) != environment:
            files["environment.json"] = json_bytes(published)
    return files


def _public_environment(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the content of ``environment.json`` with commands as they are published."""
    published = dict(environment)
    if isinstance(environment.get("command"), str):
        published["command"] = public_command(environment["command"])
    if isinstance(parts := environment.get("resumed"), list):
        published["resumed"] = [_public_environment(part) if isinstance(part, dict) else part for part in parts]
    return published
