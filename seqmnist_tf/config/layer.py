"""The layer of a configuration: its file, its constants as text, its parameters."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from ..system import reading
from .sections import STOCK_LAYERS, Config
from .values import value_text

LAYER_FILE = "layer.py"  # in a run


class LayerFile(NamedTuple):
    """The content of a custom layer's file, and its path, which tracebacks name."""

    path: Path
    content: bytes


def layer_file(config: Config) -> Path | None:
    """Return the file of ``model.layer``, or None where the layer is not from a file."""
    path, _, _ = config.model.layer.rpartition(":")
    return Path(path) if path.endswith(".py") else None


def layer_name(layer: str) -> str:
    """Return the name in a ``model.layer``, without its file or module."""
    return layer.rpartition(":")[2]


def has_stock_layer(config: Config) -> bool:
    """Return whether ``model.layer`` is a layer of Keras, so that building or loading it runs no other code."""
    return config.model.layer in STOCK_LAYERS


def read_layer(config: Config) -> LayerFile | None:
    """Return the file of ``model.layer``; None for a layer of Keras or of MODULE:NAME.

    Raises:
        InputError: the file cannot be read.
        SyntaxError: it is not Python. This is checked here, before TensorFlow starts.
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


def num_params(config: Config) -> int | None:
    """Return the number of parameters of the model, or None for a custom layer.

    An LSTM over one feature has four gates with a kernel, a recurrent kernel and one bias vector; Keras's GRU has three
    gates and two bias vectors, its SimpleRNN one gate. The dense layer adds its own.
    """
    if not has_stock_layer(config):
        return None
    gates, biases = {"LSTM": (4, 1), "GRU": (3, 2), "SimpleRNN": (1, 1)}[config.model.layer]
    units, classes = config.model.hidden_size, config.model.output_size
    return gates * units * (config.model.input_size + units + biases) + units * classes + classes
