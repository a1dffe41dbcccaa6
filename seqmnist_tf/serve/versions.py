"""The exported versions in a folder, ``FOLDER/<version>/``: their names and descriptions, without TensorFlow."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..system import InputError, read_json_object, warn

MODEL_NAME = "seqmnist"
IMAGE_SIDE = 28  # of the images that a version classifies
DEFAULT_FOLDER = Path("export", MODEL_NAME)
DEFAULT_SIGNATURE = "serving_default"
MODEL_FILE = "saved_model.pb"
EXTRA_ASSETS = "assets.extra"  # TF Serving's name for the folder of extra files in a version
DESCRIPTION_FILE = "model.json"
WARM_UP_FILE = "tf_serving_warmup_requests"  # TF Serving replays these requests before it serves a version
HINT = "give --model-dir a folder that seqmnist_tf.export has written to"


def exported_versions(folder: Path) -> dict[int, Path]:
    """Return the versions in a folder by number, in ascending order: the subfolders whose names are numbers.

    Raises:
        OSError: the folder cannot be read.
    """
    paths = (path for path in folder.iterdir() if re.fullmatch(r"[0-9]{1,18}", path.name) and path.is_dir())
    return dict(sorted((int(path.name), path) for path in paths))


def require_versions(folder: Path) -> dict[int, Path]:
    """Return the versions in a folder by number, in ascending order. One without a model is left out with a warning.

    Raises:
        InputError: the folder cannot be read, or has no version.
    """
    try:
        versions = exported_versions(folder)
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror} ({HINT})") from None
    complete = {number: path for number, path in versions.items() if os.path.isfile(path / MODEL_FILE)}
    for number in versions.keys() - complete.keys():
        warn(f"version {number} is left out: {versions[number]} has no {MODEL_FILE}, or cannot be read")
    if not complete:
        raise InputError(f"no version in {folder} ({HINT})")
    return complete


def read_description(version: Path) -> dict[str, Any]:
    """Return the description in a version's folder: run, configuration, test accuracy, pixel order, package versions.

    Raises:
        InputError: the description is missing or damaged.
    """
    return read_json_object(version / EXTRA_ASSETS / DESCRIPTION_FILE)
