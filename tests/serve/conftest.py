"""A gRPC server of this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent import futures

import grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc


@contextlib.contextmanager
def grpc_serving(service: prediction_service_pb2_grpc.PredictionServiceServicer) -> Iterator[str]:
    """Serve TF Serving's Predict over gRPC; give the address."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None)
