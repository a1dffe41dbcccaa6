"""TF Serving's Predict over gRPC."""

from __future__ import annotations

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ..system import RunError
from .http_limits import MAX_ANSWER_BYTES
from .printable import printable
from .versions import DEFAULT_SIGNATURE, MODEL_NAME

CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
]


def ask_grpc(server: str, images: np.ndarray, timeout: float, connect_seconds: float) -> dict[str, np.ndarray]:
    """Send one request to a server and return its outputs by name.

    Args:
        server: ``grpc://host:port``.
        images: uint8 (n, 28, 28).
        timeout: seconds to wait for the answer.
        connect_seconds: seconds to wait for the connection.

    Raises:
        ConnectionError: the server cannot be reached.
        TimeoutError: the server does not answer in time.
        RunError: the server answers with an error, or with tensors that cannot be read.
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL_NAME
    request.model_spec.signature_name = DEFAULT_SIGNATURE
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    with grpc.insecure_channel(server.removeprefix("grpc://"), CHANNEL_OPTIONS) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=connect_seconds)
        except grpc.FutureTimeoutError:
            raise ConnectionError(f"no gRPC connection within {connect_seconds:g} s") from None
        try:
            response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from None
            details = printable(" ".join(str(error.details()).split()), 200)
            raise RunError(f"{server} answered {error.code().name}: {details}") from None
    try:
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    except Exception:  # of many kinds, for tensors whose content does not fit their shape or type
        raise RunError(f"the answer of {server} has damaged tensors") from None
