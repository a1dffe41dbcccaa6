"""Exported versions of the model, ``FOLDER/<version>/``, as TF Serving reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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
WARM_UP = "tf_serving_warmup_requests"  # the requests that TF Serving replays before it serves a version


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

    def signature_defs(self) -> dict[str, Any]:
        """Return the signatures as the SavedModel declares them, ready for JSON; TF Serving's metadata is this."""
        from google.protobuf.json_format import MessageToDict
        from tensorflow.core.protobuf import saved_model_pb2

        document = saved_model_pb2.SavedModel.FromString((self.path / "saved_model.pb").read_bytes())
        declared = document.meta_graphs[0].signature_def
        options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
        return {name: MessageToDict(definition, **options) for name, definition in declared.items()}

    def warm_up_requests(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Yield the signature and the inputs of each request that TF Serving replays before it serves the version."""
        import tensorflow as tf
        from tensorflow_serving.apis import prediction_log_pb2

        for record in tf.data.TFRecordDataset(str(self.path / ASSETS / WARM_UP)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            yield request.model_spec.signature_name, inputs

    def __call__(self, signature: str = DEFAULT_SIGNATURE, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature on arrays and return its outputs as arrays."""
        import tensorflow as tf

        specs = self.inputs(signature)
        tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: output.numpy() for name, output in self.signatures[signature](**tensors).items()}
