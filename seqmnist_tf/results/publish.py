"""Publishing a run or a search: its files are copied once its model is recounted and its first batches are replayed."""

from __future__ import annotations

import gzip
import math
import platform
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..config import LAYER_FILE, PRESETS, config_id, is_trial, preset
from ..model import match_units
from ..system import (
    InputError,
    describe_machine,
    git_output,
    json_bytes,
    note,
    package_versions,
    read_json_object,
    utc_now,
)
from ..train import PACKED_STEPS_FILE, PREDICTIONS_FILE, RunDirectory, load_run, log_problems
from ..tune import SearchFolder, read_search
from .checks import drawn_problems, recount
from .records import REPLAYED_BATCHES, REPLAYS_FILE, SEARCHES, TRIALS, WITH_SCORE, Search, all_records
from .replay import VERSIONS, Replay, replay_run
from .store import locked, require_new, set_files

COPIED_FILES = ("config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json")
# Of environment.json: what a replay of a search's run needs.
ENVIRONMENT_KEYS = ("git", "python", "versions", "machine", "device", "threads", "onednn", "kernel", "first_step")
RESERVED_NAMES = ("full", "plots", TRIALS, SEARCHES)  # a word of the command line, and folders beside the records
SCHEMA = 1
FOLDERS = re.compile(r"""(?<![^\s'"=])(?:~|[A-Za-z]:)?[/\\](?:[^\s'"]*[/\\])?""")  # of an absolute path


def add_record(run: RunDirectory, name: str | None, folder: Path, *, allow_code: bool = False) -> Path:
    """Publish a finished run and return the folder of its record in the results ``folder`` of a clone.

    ``name`` is the preset's, a new one, or that of records of the same experiment. A trial was scored on held-out
    training images and never read the test set: it has no name, and its record is in ``trials/<config_id>``.
    """
    if run.config.task.permutation.startswith("file:"):  # its config_id is no hash
        raise InputError(f"{run.path} is not published: task.permutation must not be a file")
    if is_trial(run.config) and name is not None:
        raise InputError(f"a trial has no name: leave out --name (got {name!r})")
    name = f"{TRIALS}/{run.config_id}" if is_trial(run.config) else require_name(name)
    path = folder / name / f"seed{run.config.train.seed}"
    require_new(folder, path)
    _require_finished(run, folder.parent, ("completed",) if is_trial(run.config) else ("completed", "diverged"))
    ids = {record.directory.config_id for record in all_records(folder) if record.name == name}
    if name in PRESETS:
        ids.add(config_id(match_units(preset(name))))
    if others := ids - {run.config_id}:
        text = f"the name {name} is of configuration {min(others)}, and the run of {run.config_id} (give --name)"
        _refuse_if(run.path, [text])
    files = public_files(run)
    files[REPLAYS_FILE] = json_bytes({"schema": SCHEMA, "replayed": [_entry([_repeat(run, allow_code)])]})
    with locked(folder):
        set_files(folder, path, files)
    return path


def require_name(name: str | None) -> str:
    """Return a name of records or of a search, or raise InputError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name or "") or name in RESERVED_NAMES:
        reserved = " or ".join(RESERVED_NAMES)
        raise InputError(f"--name must be 1 to 40 of a-z, 0-9, - and _, and not {reserved} (got {name!r})")
    return str(name)


def _require_finished(run: RunDirectory, root: Path, statuses: tuple[str, ...]) -> None:
    """Raise InputError where a run has not ended, its logs do not fit, or its code is not that of a commit of HEAD."""
    status, problems = run.status, log_problems(run)
    if status not in statuses:
        problems.append(f"it is {status}, and not {' or '.join(statuses)}")
    if not is_trial(run.config) and not (run.config.test.enabled and not run.config.task.limit_test):
        problems.append("it must be tested on all test images, or be a trial (docs/results.md)")
    for part in (run.environment, *run.environment["resumed"]):
        commit, dirty = part["git"]["commit"], part["git"]["dirty"]
        if dirty or (commit and git_output(root, "merge-base", "--is-ancestor", commit, "HEAD") is None):
            problems.append(f"its commit {commit} is not in the history of HEAD, or its code was changed")
    _refuse_if(run.path, problems)


def _refuse_if(path: Path, problems: list[str]) -> None:
    """Raise InputError with the first of some problems, if there is one."""
    if problems:
        raise InputError(f"{path} is not published: {problems[0]}")


def _repeat(run: RunDirectory, allow_code: bool) -> Replay:
    """Recount a completed run, and replay its first batches: both must agree."""
    if run.status == "completed":
        _refuse_if(run.path, recount(run, allow_code=allow_code))
    note(f"{run.path}: retraining the first {REPLAYED_BATCHES} batches")
    replay = replay_run(run, run.step_losses(), allow_code=allow_code)
    _refuse_if(run.path, replay.problems())
    return replay


def _entry(replays: list[Replay]) -> dict[str, Any]:
    """Return what a record notes of its replay, or a search of those of its runs."""
    versions = package_versions()
    return {
        "date": utc_now(),
        "processor": describe_machine()["processor"],
        "kernel": replays[0].kernel,
        "versions": {"python": platform.python_version(), **{name: versions[name] for name in VERSIONS}},
        "batches": sum(one.batches for one in replays),
        "largest_difference": max(one.largest for one in replays),  # of a loss, relative to the recorded one
    }


def add_search(path: Path, name: str | None, folder: Path, *, allow_code: bool = False) -> Path:
    """Publish a search that has ended as ``searches/NAME.json`` and return that file."""
    target = folder / SEARCHES / f"{require_name(name)}.json"
    require_new(folder, target)
    settings, rows = read_search(path)
    runs = {row["trial"]: load_run(row["path"]) for row in rows if row["status"] != "failed"}
    document = _search_document(settings, rows, runs)
    published = Search(settings, document)
    _refuse_if(path, drawn_problems(published))
    replays = []
    for row in published.rows_with_score:
        run = runs[row["trial"]]
        if config_id(published.config(row), run.layer_file) != run.config_id:
            _refuse_if(run.path, ["its configuration is not that of its values"])
        _require_finished(run, folder.parent, WITH_SCORE)
        replays.append(_repeat(run, allow_code))
    with locked(folder):
        set_files(folder, target.parent, {target.name: json_bytes({**document, "replayed": [_entry(replays)]})})
    return target


def _search_document(search: SearchFolder, rows: list[dict[str, Any]], runs: dict[int, RunDirectory]) -> dict[str, Any]:
    """Return the content of the file of a search; ``runs`` are those of its rows, by trial."""
    layers: dict[str, str] = {}
    environments: list[dict[str, Any]] = []
    trials = []
    for row in rows:
        if (run := runs.get(row["trial"])) is None:
            trials.append(row)
            continue
        if run.layer_file:
            layers[without_folders(run.config.model.layer)] = run.layer_file.content.decode()
        parts = (run.environment, *run.environment["resumed"])
        first, *resumed = ({key: part[key] for key in ENVIRONMENT_KEYS if key in part} for part in parts)
        if (environment := {**first, "resumed": resumed}) not in environments:
            environments.append(environment)
        summary = run.summary or {}
        trials.append(
            {
                **{key: row[key] for key in ("trial", "seed", "status", "values", "score")},
                "epochs": summary["epochs"],
                "seconds": summary["seconds_total"],
                "units": run.config.model.hidden_size,
                "losses": list(takewhile(math.isfinite, run.step_losses()[:REPLAYED_BATCHES])),
                "environment": environments.index(environment),
            }
        )
    return {
        "schema": SCHEMA,
        "tuner": search.tuner,
        "preset": next(iter(runs.values())).environment["preset"],
        "base": _public_config(search.document["base"]),
        **({} if search.stops else {"stops": False}),
        "space": search.space_document,
        "layers": layers,
        "environments": environments,
        "trials": trials,
    }


def public_files(run: RunDirectory) -> dict[str, bytes]:
    """Return the files of a run's record by name, from a run directory or a record."""
    names = [*COPIED_FILES, PREDICTIONS_FILE, LAYER_FILE]
    files = {name: (run.path / name).read_bytes() for name in names if (run.path / name).is_file()}
    files[PACKED_STEPS_FILE] = gzip.compress(run.steps_csv(), mtime=0)
    for name, change in (("config.json", _public_config), ("environment.json", _public_environment)):
        document = read_json_object(run.path / name)
        if (published := change(document)) != document:
            files[name] = json_bytes(published)
    return files


def _public_config(values: dict[str, Any]) -> dict[str, Any]:
    sections = {name: dict(fields) for name, fields in values.items()}
    sections["model"]["layer"] = without_folders(sections["model"]["layer"])
    if "dir" in sections["data"]:  # which the base of a search lacks
        sections["data"]["dir"] = None
    return sections


def _public_environment(environment: dict[str, Any]) -> dict[str, Any]:
    resumed = [{**part, "command": without_folders(part["command"])} for part in environment["resumed"]]
    return {**environment, "command": without_folders(environment["command"]), "resumed": resumed}


def without_folders(text: str) -> str:
    """Return a command line whose absolute paths are their last parts."""
    return FOLDERS.sub("", text)
