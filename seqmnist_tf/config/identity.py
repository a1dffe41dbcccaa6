"""Which runs are one experiment: the ``config_id``, what does not count in it, and how two configurations differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .layer import LayerFile, layer_file, read_file, read_layer
from .sections import OPTIONS, Config
from .values import flatten

SECTIONS_APART = ("data", "wandb", "tensorboard")  # where images come from and metrics go
KEYS_APART = ("train.seed", "train.threads", "train.kernel")


def of_the_experiment(key: str) -> bool:
    """Return whether a key counts in ``config_id``. Seed, threads, kernel, data folder and tracking do not."""
    return key not in KEYS_APART and key.split(".")[0] not in SECTIONS_APART


def config_id(config: Config, layer: LayerFile | None = None, *, order_sha256: str | None = None) -> str:
    """Return the id of an experiment: 12 hexadecimal digits, equal for equal experiments.

    The id is a SHA-256 of the values that differ from their defaults, so that a key which is added later changes no
    id. Seed, threads, kernel, data, wandb and tensorboard are left out. For a pixel order or a layer from a file, the
    file's content counts, not its path; ``layer`` and ``order_sha256`` are given where it was read before.
    """
    values = {
        key: value for key, value in flatten(config).items() if value != OPTIONS[key].default and of_the_experiment(key)
    }
    if config.task.permutation.startswith("file:"):
        values["task.permutation"] = f"file:{order_sha256 or permutation_sha256(config)}"
    if layer_file(config) and (file := layer or read_layer(config)):
        values["model.layer"] = f"{hashlib.sha256(file.content).hexdigest()}:{config.model.layer.rpartition(':')[2]}"
    if constants := config.model.layer_options:
        whole = {name: int(value) for name, value in constants.items() if isinstance(value, float) and value % 1 == 0}
        values["model.layer_options"] = {**constants, **whole}  # 1.0 and 1 are one experiment
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def permutation_sha256(config: Config) -> str | None:
    """Return the hash of the file of ``task.permutation``, or None where the pixel order is not from a file."""
    if not config.task.permutation.startswith("file:"):
        return None
    return hashlib.sha256(read_file("task.permutation", Path(config.task.permutation[5:]))).hexdigest()


def is_trial(config: Config) -> bool:
    """Return whether runs of a configuration are trials: scored on held-out training images, without the test set."""
    return config.task.validation_size > 0 and not config.test.enabled


def contradictions(given: Mapping[str, Any], config: Config) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose given value is not that of a configuration, each with the given and the actual value.

    Given units contradict nothing where ``model.match_parameters`` chose the units.
    """
    constants = {f"model.layer_options.{name}": value for name, value in config.model.layer_options.items()}
    actual = {**flatten(config), **constants}
    if config.model.match_parameters is not None:
        given = {key: value for key, value in given.items() if key != "model.hidden_size"}
    return {key: (value, actual.get(key)) for key, value in given.items() if value != actual.get(key)}


def differences(config: Config, base: Config) -> dict[str, Any]:
    """Return the values in which a configuration differs from another, by ``section.key``."""
    before = flatten(base)
    return {key: value for key, value in flatten(config).items() if value != before[key]}
