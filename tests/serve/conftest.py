"""TF Serving's gRPC interface over a toy model, in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from seqmnist_tf.serve import SavedModel


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TF Serving's Predict over a SavedModel; two rows are an error, three take two seconds."""

    def __init__(self, model: SavedModel) -> None:
        self.model = model
        self.rows: list[int] = []
        self.label = ""

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        self.label = request.model_spec.version_label
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        (rows,) = {len(array) for array in inputs.values()}
        self.rows.append(rows)
        if rows == 2:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "two are too many")
        if rows == 3:
            threading.Event().wait(2)
        response = predict_pb2.PredictResponse(model_spec={"version": {"value": 5}})
        for name, value in self.model(request.model_spec.signature_name, **inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@pytest.fixture
def grpc_server(toy_model: SavedModel) -> Iterator[tuple[str, Service]]:
    """Serve the toy model over gRPC; give the address, and what was asked."""
    service, server = Service(toy_model), grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}", service
    server.stop(None)
