"""TF Serving's Predict over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ..config import NUM_CLASSES
from ..system import RunError, printable
from .versions import DEFAULT_SIGNATURE, MODEL_NAME


def ask_grpc(
    server: str, images: np.ndarray, timeout: float, label: str | None, connect_seconds: float, max_bytes: int
) -> dict[str, list[Any] | None]:
    """Send one request to a server and return its class ids and probabilities by name, None in place of other shapes.

    Raises:
        ConnectionError: the server cannot be reached.
        TimeoutError: the server does not answer in time.
        RunError: the server answers with an error, or with tensors that cannot be read.
    """
    request = predict_pb2.PredictRequest(
        model_spec={"name": MODEL_NAME, "signature_name": DEFAULT_SIGNATURE, "version_label": label},
        inputs={"images": tf.make_tensor_proto(images)},
    )
    options = {"enable_retries": 0, "enable_http_proxy": 0, "max_receive_message_length": max_bytes}
    address, grpc_options = server.removeprefix("grpc://"), [(f"grpc.{name}", value) for name, value in options.items()]
    with grpc.insecure_channel(address, grpc_options) as channel:
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
    outputs: dict[str, list[Any] | None] = {}
    for name, shape in (("class_id", [len(images)]), ("probabilities", [len(images), NUM_CLASSES])):
        if name in response.outputs:
            tensor = response.outputs[name]
            fits = [axis.size for axis in tensor.tensor_shape.dim] == shape  # a tensor may claim to be of any size
            try:
                outputs[name] = tf.make_ndarray(tensor).tolist() if fits else None
            except Exception:  # of many kinds, for tensors whose content does not fit their shape or type
                raise RunError(f"the answer of {server} has damaged tensors") from None
    return outputs
