"""TF Serving's Predict over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ..system import RunError
from .versions import DEFAULT_SIGNATURE, MODEL_NAME


def ask_grpc(
    server: str, batches: list[np.ndarray], timeout: float, label: str | None
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the outputs for each batch of images, and the version that answered."""
    # A proxy of the environment would answer in the server's place.
    with grpc.insecure_channel(server.removeprefix("grpc://"), [("grpc.enable_http_proxy", 0)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for images in batches:
            request = predict_pb2.PredictRequest(
                model_spec={"name": MODEL_NAME, "signature_name": DEFAULT_SIGNATURE, "version_label": label},
                inputs={"images": tf.make_tensor_proto(images)},
            )
            try:
                response = stub.Predict(request, timeout=timeout)
            except grpc.RpcError as error:
                raise RunError(f"no answer from {server}: {error.code().name}: {error.details()}") from None
            outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
            yield outputs, response.model_spec.version.value
