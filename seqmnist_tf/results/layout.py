"""Which files a record has: the record of a run, and that of a trial."""

from __future__ import annotations

from pathlib import Path

from ..train import LAYER_FILE, PACKED_STEPS_FILE, PREDICTIONS_FILE

REPLAYS_FILE = "record.json"
COPIED_FILES = ("config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json")
REQUIRED_FILES = (*COPIED_FILES, PACKED_STEPS_FILE)
OPTIONAL_FILES = (PREDICTIONS_FILE, REPLAYS_FILE, LAYER_FILE)  # a run of version 0.1.0 has none of them
NOT_OF_TRIALS = ("model.keras", PREDICTIONS_FILE)
TRIALS = "trials"
RECORD_FOLDERS = "*/seed*"
TRIAL_FOLDERS = f"{TRIALS}/*/seed*"


def is_hidden(path: Path) -> bool:
    """Return whether a relative path leads to what a killed command left behind, or to a hidden file of a system."""
    return any(part.startswith(".") for part in path.parts)


def record_name(folder: Path) -> str:
    """Return the name of the record in a folder: ``strong``; of a trial ``trials/<config_id>``."""
    return f"{TRIALS}/{folder.parent.name}" if is_trial_folder(folder) else folder.parent.name


def is_trial_folder(folder: Path) -> bool:
    """Return whether a folder of a record is in the place of trials."""
    return folder.parent.parent.name == TRIALS


def layout_problems(folder: Path) -> list[str]:
    """Return the files that a record lacks or must not have."""
    names = {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}
    left_out = NOT_OF_TRIALS if is_trial_folder(folder) else ()
    allowed = [name for name in (*REQUIRED_FILES, *OPTIONAL_FILES) if name not in left_out]
    return [
        *(f"{name} is missing" for name in allowed if name in REQUIRED_FILES and name not in names),
        *(f"{name} does not belong to a record" for name in sorted(names) if name not in allowed),
        *(
            f"{name} must be a file"
            for name, path in sorted(names.items())
            if name in allowed and (path.is_symlink() or not path.is_file())
        ),
    ]
