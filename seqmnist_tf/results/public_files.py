"""The files of a run as they are published: compressed batch losses, and no places of the machine."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from ..config import is_trial
from ..system import InputError, json_bytes
from ..train import LAYER_FILE, PACKED_STEPS_FILE, PREDICTIONS_FILE, RunDirectory
from .layout import COPIED_FILES
from .train_command import public_command, public_config
from .wellformed import read_strict_object


def public_files(run: RunDirectory) -> dict[str, bytes]:
    """Return the files of a run's record by name, from a run directory or a record; without those that it lacks.

    ``data.dir`` and absolute paths in the command are replaced. Everything else is unchanged.

    Raises:
        InputError: a file cannot be read.
    """
    files = {}
    tested = () if is_trial(run.config) else (PREDICTIONS_FILE,)
    for name in (*COPIED_FILES, *tested, LAYER_FILE):
        if (run.path / name).is_file():
            files[name] = _read(run.path / name)
    if any((run.path / name).is_file() for name in ("steps.csv", PACKED_STEPS_FILE)):
        files[PACKED_STEPS_FILE] = gzip.compress(run.steps_csv(), mtime=0)
    config = read_strict_object(run.path / "config.json")
    if (published := public_config(config)) != config:
        files["config.json"] = json_bytes(published)
    if "environment.json" in files:
        environment = read_strict_object(run.path / "environment.json")
        if (published := _public_environment(environment)) != environment:
            files["environment.json"] = json_bytes(published)
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


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
