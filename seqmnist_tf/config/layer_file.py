"""The file of a custom layer: one self-contained module, whose content counts and is copied into the run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from ..system import reading
from .sections import STOCK_LAYERS, Config

LAYER_FILE = "layer.py"  # in a run


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
    """Return the file of ``model.layer``; None of a layer of Keras, and of one that is imported as MODULE:NAME.

    Raises:
        InputError: the file cannot be read.
        SyntaxError: it is no Python, which is said here, before TensorFlow starts.
    """
    if (path := layer_file(config)) is None:
        return None
    file = LayerFile(path, read_file("model.layer", path))
    ast.parse(file.content, str(path))
    return file


def read_copy(folder: Path) -> LayerFile | None:
    """Return the layer's file that a run keeps in its folder; None where it has none."""
    path = folder / LAYER_FILE
    return LayerFile(path, read_file("model.layer", path)) if path.is_file() else None


def read_file(key: str, path: Path) -> bytes:
    """Return the content of a file that a key names."""
    with reading(f"the file of {key}, {path}"):
        return path.read_bytes()
