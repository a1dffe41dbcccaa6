"""Publishing a run: its files are copied into the results folder after all checks."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from ..config import PRESETS, config_id, preset
from ..system import InputError, folder_atomically
from ..train import RunDirectory
from .manifest import file_hash, read_manifest, write_manifest
from .records import COPIED_FILES, STEPS_FILE, read_records
from .verify import model_problems, run_problems


def add_record(run: RunDirectory, name: str, folder: Path) -> Path:
    """Publish a finished run under a name and return the folder of its record.

    The files are copied unchanged; ``steps.csv`` is compressed. Before, they are checked against each other, and the
    model is loaded on stock Keras, where it must classify as many test digits correctly as ``summary.json`` says.

    Args:
        run: a run directory.
        name: the preset's name if the run is of a preset; else a new name, or the name of records of the same
            experiment.
        folder: the results folder.

    Raises:
        InputError: a check fails, or the record exists; nothing is written.
        OSError: the disk is full.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        raise InputError(f"--name must be 1 to 40 of a-z, 0-9, - and _, a letter or digit first (got {name!r})")
    run.require_model()
    losses = (run.path / "steps.csv").read_bytes() if (run.path / "steps.csv").is_file() else b""
    _require_no_problems(run, run_problems(run, losses))
    _require_no_problems(run, name_problems(run, name, folder))
    path = folder / name / f"seed{run.config.train.seed}"
    if path.exists():
        raise InputError(f"{path} is already published (give another run, or another --name)")
    _require_no_problems(run, model_problems(run))
    with folder_atomically(path) as new:
        for file in COPIED_FILES:
            (new / file).write_bytes((run.path / file).read_bytes())
        (new / STEPS_FILE).write_bytes(gzip.compress(losses, mtime=0))
        hashes = {f"{name}/{path.name}/{file.name}": file_hash(file) for file in new.iterdir()}
        write_manifest(folder, {**read_manifest(folder), **hashes})
    return path


def name_problems(run: RunDirectory, name: str, folder: Path) -> list[str]:
    """Return whether ``name`` is the name of another experiment, of a preset or of records."""
    experiment = config_id(run.config)
    others = {config_id(record.config) for record in read_records(folder).get(name, [])}
    if name in PRESETS:
        others.add(config_id(preset(name)))
    if not others - {experiment}:
        return []
    return [
        f"--name {name} is the name of configuration {', '.join(sorted(others))}, but this run has configuration "
        f"{experiment} (give another name)"
    ]


def _require_no_problems(run: RunDirectory, problems: list[str]) -> None:
    if problems:
        raise InputError(f"{run.path} is not published: {problems[0]}")
