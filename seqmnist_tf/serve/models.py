"""The models of exported versions: one as a function, and those of a folder for the local server."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from ..system import InputError, first_line, printable, warn
from .guard import RequestError
from .versions import DEFAULT_SIGNATURE, EXTRA_ASSETS, MODEL_NAME, WARM_UP_FILE, read_description


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel in this process.

    Attributes:
        path: the folder of its version.
        signatures: TensorFlow's functions by signature name.

    Example::

        model = SavedModel.load(Path("export/seqmnist/2"))
        print(model(images=np.zeros((1, 28, 28), np.uint8))["class_id"])
    """

    path: Path
    signatures: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> SavedModel:
        """Load a version.

        Raises:
            InputError: ``path`` has no SavedModel, or a damaged one.
        """
        try:
            loaded = tf.saved_model.load(str(path))
        except Exception as error:
            # TensorFlow raises many kinds of exceptions for missing and damaged files.
            hint = "give a folder that seqmnist_tf.export has written"
            raise InputError(f"cannot read {path}: {first_line(error)} ({hint})") from None
        return cls(path, dict(loaded.signatures))

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """The description that export wrote: run, configuration, test accuracy, pixel order, package versions."""
        return read_description(self.path)

    def inputs(self, signature: str) -> dict[str, Any]:
        """Return TensorFlow's specification (shape and dtype) of each input of a signature."""
        return dict(self.signatures[signature].structured_input_signature[1])

    def outputs(self, signature: str) -> dict[str, Any]:
        """Return TensorFlow's specification (shape and dtype) of each output of a signature."""
        return dict(self.signatures[signature].structured_outputs)

    @functools.cached_property
    def signature_defs(self) -> dict[str, Any]:
        """Return the signatures as the SavedModel declares them, ready for JSON, as in TF Serving's metadata."""
        declared = self._meta_graph().signature_def
        options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
        return {name: MessageToDict(definition, **options) for name, definition in declared.items()}

    def python_operations(self) -> list[str]:
        """Return the names of the operations that call back into Python, which a server without Python lacks."""
        graph = self._meta_graph().graph_def
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        return sorted({node.op for node in nodes} & {"PyFunc", "PyFuncStateless", "EagerPyFunc"})

    def _meta_graph(self) -> Any:
        return saved_model_pb2.SavedModel.FromString((self.path / "saved_model.pb").read_bytes()).meta_graphs[0]

    def warm_up_requests(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Yield the signature and the inputs of each request that TF Serving replays before it serves the version.

        A version that was not written by this project's export may have none.
        """
        if not (self.path / EXTRA_ASSETS / WARM_UP_FILE).exists():
            return
        for record in tf.data.TFRecordDataset(str(self.path / EXTRA_ASSETS / WARM_UP_FILE)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            yield request.model_spec.signature_name, inputs

    def warm_up(self) -> None:
        """Answer the warm-up requests, after which the first request of a client takes no longer than the others.

        Raises:
            InputError: their file is damaged, or they do not suit the version.
        """
        try:
            for signature, inputs in self.warm_up_requests():
                self(signature, **inputs)
        except Exception as error:  # of many kinds, as in :meth:`load`
            raise InputError(f"cannot replay the warm-up requests of {self.path}: {first_line(error)}") from None

    def __call__(self, signature: str = DEFAULT_SIGNATURE, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature on arrays and return its outputs as arrays."""
        specs = self.inputs(signature)
        tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: output.numpy() for name, output in self.signatures[signature](**tensors).items()}


class ServedModels:
    """Exported versions: the newest is loaded at once, each of the others at its first request.

    As TF Serving does, it goes on without a version that cannot be loaded, with a warning. ``labels`` has numbers of
    versions, which may be missing.

    Raises:
        InputError: no version can be loaded.
    """

    def __init__(self, paths: Mapping[int, Path], labels: Mapping[str, int] | None = None) -> None:
        self.paths = dict(paths)
        self.labels = dict(labels or {})
        self._loaded: dict[int, SavedModel] = {}
        self._lock = threading.Lock()
        while True:
            self.newest = max(self.paths)
            try:
                self._load(self.newest)
                return
            except InputError as error:
                if len(self.paths) == 1:
                    raise
                self._skip(self.newest, error)

    def is_loaded(self, number: int | None) -> bool:
        """Return whether :meth:`get` answers without loading: the version is loaded, or unknown. None is the newest."""
        return number is None or number in self._loaded or number not in self.paths

    def get(self, number: int | None) -> SavedModel:
        """Return the model of a version, None is the newest. A version that was not loaded is loaded.

        Raises:
            RequestError: 404, unknown version, or one that cannot be loaded.
        """
        number = self.newest if number is None else number
        if (loaded := self._loaded.get(number)) is not None:
            return loaded
        with self._lock:
            try:
                if number in self.paths and number not in self._loaded:
                    self._load(number)
            except InputError as error:
                self._skip(number, error)
        if number not in self.paths:
            raise RequestError(404, f"Servable not found for request: Specific({MODEL_NAME}, {number})")
        return self._loaded[number]

    def _load(self, number: int) -> None:
        model = SavedModel.load(self.paths[number])
        model.warm_up()
        _ = model.signature_defs  # now: the folder may be removed, and another version may get its number
        with contextlib.suppress(InputError):  # a version that another program wrote has none
            _ = model.description
        self._loaded[number] = model

    def _skip(self, number: int, error: InputError) -> None:
        warn(f"version {number} is not served: {error}")
        del self.paths[number]


def read_labels(folder: Path) -> dict[str, int]:
    """Return the versions by label that ``../config/models.config``, beside a folder of versions, names, if it exists.

    Raises:
        InputError: the configuration cannot be read.
    """
    path = folder.resolve().parent / "config" / "models.config"
    if not path.is_file():
        return {}
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise InputError(f"cannot read {path}: {printable(str(error))}") from None
    models = [model for model in config.model_config_list.config if model.name == MODEL_NAME]
    return {label: number for model in models for label, number in model.version_labels.items()}
