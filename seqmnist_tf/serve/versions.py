"""The exported versions in a folder, ``FOLDER/<version>/``: their names and descriptions, without TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..system import InputError, read_json_object

MODEL_NAME = "seqmnist"
IMAGE_SIDE = 28  # of the images that a version classifies
DEFAULT_FOLDER = Path("export", MODEL_NAME)
DEFAULT_SIGNATURE = "serving_default"
EXTRA_ASSETS = "assets.extra"  # TF Serving's name for the folder of extra files in a version
DESCRIPTION_FILE = "model.json"
WARM_UP_FILE = "tf_serving_warmup_requests"  # TF Serving replays these requests before it serves a version


def exported_versions(folder: Path) -> dict[int, Path]:
    """Return the versions in a folder by number, in ascending order: the subfolders whose names are numbers."""
    paths = (path for path in folder.glob("[0-9]*") if path.name.isdecimal() and path.is_dir())
    return dict(sorted((int(path.name), path) for path in paths))


def choose_version(folder: Path, number: int | None = None) -> Path:
    """Return the path of the version to serve: ``number``, else the one with the label ``stable``, else the newest.

    TF Serving's ``../config/models.config`` beside the folder has the label.
    """
    versions = exported_versions(folder)
    if not versions:
        raise InputError(f"no version in {folder} (seqmnist_tf.export writes one)")
    if number is None:
        config = folder.resolve().parent / "config" / "models.config"
        text = config.read_text(encoding="utf-8") if config.is_file() else ""
        stable = re.search(r'key:\s*"stable"\s*value:\s*(\d+)', text)
        number = int(stable[1]) if stable and int(stable[1]) in versions else max(versions)
    if number not in versions:
        raise InputError(f"--version must be one of {', '.join(map(str, versions))} (got {number})")
    return versions[number]


def read_description(version: Path) -> dict[str, Any]:
    """Return the description of a version: run, configuration, test accuracy, pixel order, package versions."""
    return read_json_object(version / EXTRA_ASSETS / DESCRIPTION_FILE)
