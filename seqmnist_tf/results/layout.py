"""Where a record is, and which files it has. A trial is a record too."""

from __future__ import annotations

import re
from pathlib import Path

from ..config import is_trial, publication_problems
from ..system import InputError
from ..train import LAYER_FILE, PACKED_STEPS_FILE, PREDICTIONS_FILE, RunDirectory

REPLAYS_FILE = "record.json"
COPIED_FILES = ("config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json")
REQUIRED_FILES = (*COPIED_FILES, PACKED_STEPS_FILE)
OPTIONAL_FILES = (PREDICTIONS_FILE, REPLAYS_FILE, LAYER_FILE)  # a run of version 0.1.0 has none of them
TRIALS = "trials"
RECORD_FOLDERS = "*/seed*"
TRIAL_FOLDERS = f"{TRIALS}/*/seed*"
RESERVED_NAMES = ("full", "plots", TRIALS)  # a word of the command line, and folders beside the records


def is_hidden(path: Path) -> bool:
    """Return whether a relative path leads to what a killed command left behind, or to a hidden file of a system."""
    return any(part.startswith(".") for part in path.parts)


def choose_name(run: RunDirectory, name: str | None) -> str:
    """Return the name of a run's record: the given one, or of a trial ``trials/<config_id>``.

    Raises:
        InputError: a trial is given a name, or another run none, or one that is not allowed.
    """
    if is_trial(run.config):
        if name is not None:
            raise InputError(f"a trial has no name: leave out --name (got {name!r})")
        if problems := publication_problems(run.config):  # where its pixel order is a file, its config_id is no hash
            raise InputError(f"{run.path} is not published: {problems[0]}")
        return f"{TRIALS}/{run.config_id}"
    if name is None:
        raise InputError("--name is needed: the name of the run's preset, or a new name")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name) or name in RESERVED_NAMES:
        raise InputError(
            f"--name must be 1 to 40 of a-z, 0-9, - and _, a letter or digit first, and not "
            f"{' or '.join(RESERVED_NAMES)} (got {name!r})"
        )
    return name


def record_name(folder: Path) -> str:
    """Return the name of the record in a folder: ``strong``; of a trial ``trials/<config_id>``."""
    return f"{TRIALS}/{folder.parent.name}" if is_trial_folder(folder) else folder.parent.name


def is_trial_folder(folder: Path) -> bool:
    """Return whether a folder of a record is in the place of trials."""
    return folder.parent.parent.name == TRIALS


def layout_problems(folder: Path) -> list[str]:
    """Return the files that a record lacks or must not have."""
    names = {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}
    optional = [name for name in OPTIONAL_FILES if name != PREDICTIONS_FILE or not is_trial_folder(folder)]
    allowed = (*REQUIRED_FILES, *optional)
    return [
        *(f"{name} is missing" for name in REQUIRED_FILES if name not in names),
        *(f"{name} does not belong to a record" for name in sorted(names) if name not in allowed),
        *(
            f"{name} must be a file"
            for name, path in sorted(names.items())
            if name in allowed and (path.is_symlink() or not path.is_file())
        ),
    ]
