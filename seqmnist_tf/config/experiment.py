"""What a configuration is as an experiment: its id, the file of a custom layer, its parameters."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from ..system import reading
from .sections import OPTIONS, STOCK_LAYERS, Config
from .values import flatten, value_text

LAYER_FILE = "layer.py"  # in a run
SECTIONS_APART = ("data", "wandb", "tensorboard")  # where images come from and metrics go
KEYS_APART = ("train.seed", "train.threads", "train.kernel")


class LayerFile(NamedTuple):
    """The content of a custom layer's file, and where it was read, which tracebacks name."""

    path: Path
    content: bytes


def layer_file(config: Config) -> Path | None:
    """Return the file of ``model.layer``, or None where the layer is not from a file."""
    path, _, _ = config.model.layer.rpartition(":")
    return Path(path) if path.endswith(".py") else None


def has_stock_layer(config: Config) -> bool:
    """Return whether ``model.layer`` is a layer of Keras, so that building or loading it runs no other code."""
    return config.model.layer in STOCK_LAYERS


def read_layer(config: Config) -> LayerFile | None:
    """Return the file of ``model.layer``; None for a layer of Keras or of MODULE:NAME.

    Raises:
        InputError: the file cannot be read.
        SyntaxError: it is no Python, which is said here, before TensorFlow starts.
    """
    if (path := layer_file(config)) is None:
        return None
    file = LayerFile(path, read_file("model.layer", path))
    ast.parse(file.content, str(path))
    return file


def read_file(key: str, path: Path) -> bytes:
    """Return the content of a file that a key names."""
    with reading(f"the file of {key}, {path}"):
        return path.read_bytes()


def constants_text(config: Config) -> str:
    """Return ``model.layer_options`` as arguments, with six digits, as ``dt=0.21, on=true``; empty without any."""
    constants = config.model.layer_options
    texts = {name: f"{x:g}" if isinstance(x, float) else value_text(x) for name, x in constants.items()}
    return ", ".join(f"{name}={text}" for name, text in texts.items())


def arguments_text(config: Config) -> str:
    """Return the layer's units and constants, such as ``128, dt=0.21``."""
    return ", ".join(filter(None, [str(config.model.hidden_size), constants_text(config)]))


def is_trial(config: Config) -> bool:
    """Return whether runs of a configuration are trials: scored on held-out training images, without the test set."""
    return config.task.validation_size > 0 and not config.test.enabled


def of_the_experiment(key: str) -> bool:
    """Return whether a key counts in ``config_id``: not the seed, nor what says where and on what a run is computed."""
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


def num_params(config: Config) -> int | None:
    """Return the number of parameters of the model, or None for a custom layer.

    An LSTM over one feature has four gates with a kernel, a recurrent kernel and one bias vector; Keras's GRU has three
    gates and two bias vectors, its SimpleRNN one gate. The dense layer follows.
    """
    if not has_stock_layer(config):
        return None
    gates, biases = {"LSTM": (4, 1), "GRU": (3, 2), "SimpleRNN": (1, 1)}[config.model.layer]
    units, classes = config.model.hidden_size, config.model.output_size
    return gates * units * (config.model.input_size + units + biases) + units * classes + classes
