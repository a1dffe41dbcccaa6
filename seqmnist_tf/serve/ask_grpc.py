"""TF Serving's Predict over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ..system import RunError
from .versions import CONNECT_SECONDS, DEFAULT_SIGNATURE, MODEL_NAME


def ask_grpc(
    server: str, batches: list[np.ndarray], timeout: float, label: str | None
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yield the outputs for each batch of images, and the version that answered.

    Raises:
        RunError: the server cannot be reached, does not answer in time, or answers with an error.
    """
    with grpc.insecure_channel(server.removeprefix("grpc://"), [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            raise RunError(f"cannot reach {server} (start TF Serving; seqmnist_tf.serve has REST only)") from None
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for images in batches:
            request = predict_pb2.PredictRequest(
                model_spec={"name": MODEL_NAME, "signature_name": DEFAULT_SIGNATURE, "version_label": label},
                inputs={"images": tf.make_tensor_proto(images)},
            )
            try:
                response = stub.Predict(request, timeout=timeout)
            except grpc.RpcError as error:
                raise RunError(f"{server} answered {error.code().name}: {error.details()}") from None
            outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
            yield outputs, response.model_spec.version.value
