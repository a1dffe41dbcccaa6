"""Exported versions of the model, ``FOLDER/<version>/``, as TF Serving reads them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import runtime
from .errors import InputError, first_line

MODEL_NAME = "seqmnist"
DEFAULT_FOLDER = Path("export", MODEL_NAME)
DEFAULT_SIGNATURE = "serving_default"
ASSETS = "assets.extra"  # TF Serving's name for what lies beside a SavedModel
DESCRIPTION = "model.json"


def versions(folder: Path) -> dict[int, Path]:
    """Return the versions in a folder by their number, the lowest first: its folders whose names are numbers."""
    found = (path for path in folder.iterdir() if re.fullmatch(r"[0-9]{1,18}", path.name) and path.is_dir())
    return dict(sorted((int(path.name), path) for path in found))


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel in this process.

    Attributes:
        path: the folder of its version.
        signatures: TensorFlow's functions by the names of signatures.
    """

    path: Path
    signatures: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> SavedModel:
        """Load a version.

        Raises:
            InputError: there is no SavedModel at ``path``, or none that can be read.
        """
        runtime.import_tensorflow()
        import tensorflow as tf

        try:
            loaded = tf.saved_model.load(str(path))
        except Exception as error:
            # TensorFlow has no one exception for what a file can lack.
            raise InputError(f"cannot read {path}: {first_line(error)} (give a folder that export made)") from None
        return cls(path, dict(loaded.signatures))

    @property
    def description(self) -> dict[str, Any]:
        """What export wrote beside the model: configuration, commit, accuracy, pixel order, versions."""
        path = self.path / ASSETS / DESCRIPTION
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}") from None

    def inputs(self, signature: str) -> dict[str, Any]:
        """Return TensorFlow's specification, with shape and dtype, of each input of a signature."""
        return dict(self.signatures[signature].structured_input_signature[1])

    def outputs(self, signature: str) -> dict[str, Any]:
        """Return TensorFlow's specification of each output of a signature."""
        return dict(self.signatures[signature].structured_outputs)

    def __call__(self, signature: str = DEFAULT_SIGNATURE, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature on arrays and return its outputs as arrays."""
        import tensorflow as tf

        specs = self.inputs(signature)
        tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: output.numpy() for name, output in self.signatures[signature](**tensors).items()}
