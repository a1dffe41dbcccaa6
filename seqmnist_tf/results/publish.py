"""Publishing a run: its files are copied into the results folder after all checks, without places of the machine."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

from ..config import is_trial
from ..system import InputError, json_bytes, note, read_json_object, unwritable
from ..train import LAYER_FILE, PACKED_STEPS_FILE, PREDICTIONS_FILE, RunDirectory, load_final_model
from .commands import public_command, public_config
from .model_check import ModelCheck, evaluation_problems, validation_problems, weights_digest
from .origin import ancestor_problems
from .records import COPIED_FILES, REPLAYS_FILE, Record, all_records, all_trials, choose_name, record_json
from .replay import REPLAYED_BATCHES, TrainingData, replay_run
from .store import add_files, is_listed, locked
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
        InputError: a check fails, the record exists, or ``folder`` is not writable; nothing is written.
        RunError: no data, or another process is publishing for minutes.
        OSError: the disk is full.
    """
    if problem := unwritable(folder):
        raise InputError(f"nothing can be published in {folder}: {problem}")
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
        raise _refused(run, str(error)) from None
    staged.path.mkdir(parents=True)
    for file, content in files.items():
        (staged.path / file).write_bytes(content)
    if problems := record_problems(staged.path, folder.parent):
        raise _refused(run, problems[0])
    record = Record.read(staged.path)
    path = folder / record.name / f"seed{record.seed}"
    if is_listed(folder, path):
        raise InputError(f"{path} is already published (give another run)")
    commit = record.environment["git"]["commit"]  # None: the run is from a wheel
    if commit and (problems := ancestor_problems(folder.parent, commit)):
        raise _refused(run, problems[0])
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
    if problems:
        raise _refused(run, problems[0])


def _others(record: Record, folder: Path) -> list[Record]:
    """Return the published records and trials, without one in the record's own place, which is not listed."""
    own = (record.name, record.seed)
    return [other for other in all_records(folder) + all_trials(folder) if (other.name, other.seed) != own]


def _checked_anew(run: RunDirectory, record: Record, folder: Path, allow_code: bool) -> dict[str, bytes]:
    """Train the first batches anew and evaluate the model; return the files that a record has beside the run's."""
    problems, digest = ModelCheck(allow_code).check(record.run)
    if problems := problems or _weight_doubles(record, digest, folder, allow_code):
        raise _refused(run, problems[0])
    losses = record.run.step_losses()
    note(f"training the first {min(REPLAYED_BATCHES, len(losses))} batches anew")
    replay = replay_run(record.run, losses, TrainingData(), allow_code=allow_code)
    if problems := replay.problems():
        raise _refused(run, problems[0])
    files = {REPLAYS_FILE: record_json([replay.entry()])}
    if is_trial(record.config):
        problems = validation_problems(record.run, allow_code=allow_code)
    else:
        problems, files[PREDICTIONS_FILE] = evaluation_problems(record.run, allow_code=allow_code)
    if problems:
        raise _refused(run, problems[0])
    return files


def _weight_doubles(record: Record, digest: str, folder: Path, allow_code: bool) -> list[str]:
    """Return whether the model is that of a published record; ``digest`` is of its weights."""
    parameters = record.summary["num_params"]
    for other in _others(record, folder):
        if other.summary.get("num_params") == parameters:
            allowed = allow_code or other.layer_source is None
            if allowed and weights_digest(load_final_model(other.run, allow_code=allow_code)) == digest:
                return [f"its model is of {other.run.path}"]
    return []


def _refused(run: RunDirectory, problem: str) -> InputError:
    return InputError(f"{run.path} is not published: {problem}")


def public_files(run: RunDirectory) -> dict[str, bytes]:
    """Return the files of a run's record by name, from a run directory or a record; without those that it lacks.

    ``data.dir`` and absolute paths in the command are replaced. Everything else is unchanged.
    """
    files = {}
    tested = () if is_trial(run.config) else (PREDICTIONS_FILE,)
    for name in (*COPIED_FILES, *tested, LAYER_FILE):
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
    if isinstance(environment.get("resumed"), list):
        parts = environment["resumed"]
        if not all(isinstance(part, dict) for part in parts):
            raise InputError("resumed in environment.json must be a list of objects")
        published["resumed"] = [_public_environment(part) for part in parts]
    return published
