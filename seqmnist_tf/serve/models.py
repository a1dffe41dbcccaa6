"""An exported version as a function."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from ..system import reading
from .versions import DEFAULT_SIGNATURE, EXTRA_ASSETS, WARM_UP_FILE, read_description


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel in this process: the folder of its version, and TensorFlow's functions by signature name."""

    path: Path
    signatures: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> SavedModel:
        """Load a version."""
        with reading(path):
            return cls(path, dict(tf.saved_model.load(str(path)).signatures))

    def inputs(self, signature: str) -> dict[str, Any]:
        """Return TensorFlow's specification (shape and dtype) of each input of a signature."""
        return dict(self.signatures[signature].structured_input_signature[1])

    def signature_defs(self) -> dict[str, Any]:
        """Return the signatures as the SavedModel declares them, ready for JSON, as in TF Serving's metadata."""
        (graph,) = saved_model_pb2.SavedModel.FromString((self.path / "saved_model.pb").read_bytes()).meta_graphs
        options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
        return {name: MessageToDict(definition, **options) for name, definition in graph.signature_def.items()}

    def warm_up_requests(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Yield the signature and the inputs of each request that TF Serving replays before it serves the version."""
        path = self.path / EXTRA_ASSETS / WARM_UP_FILE
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            yield request.model_spec.signature_name, inputs

    def __call__(self, signature: str = DEFAULT_SIGNATURE, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature on arrays, or on nested lists, and return its outputs as arrays."""
        specs = self.inputs(signature)
        tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: output.numpy() for name, output in self.signatures[signature](**tensors).items()}


def lstm_weights(version: Path) -> bytes | None:
    """Return the weights of a version's LSTM and dense layer, little-endian float32, in the order of ``web/lstm.js``.

    None where the recurrent layer is no stock LSTM: such a version has no signature ``trace``.
    """
    if "trace" not in read_description(version)["difference_from_keras"]:
        return None
    checkpoint = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    matches = (re.match(r"variables/(\d+)/", name) for name in checkpoint.get_variable_to_shape_map())
    names = {int(match[1]): match.string for match in matches if match}
    arrays = [checkpoint.get_tensor(names[number]) for number in sorted(names)]
    return b"".join(array.astype("<f4").tobytes() for array in arrays if array.dtype == np.float32)
