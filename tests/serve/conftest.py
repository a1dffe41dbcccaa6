"""Servers of this process that answer as they are told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

Start = Callable[..., str]


@pytest.fixture
def answering() -> Iterator[Start]:
    """Start a server that reads a request and answers with parts of bytes, with a pause between them."""
    servers: list[tuple[socket.socket, threading.Thread]] = []
    ended = threading.Event()

    def start(*parts: bytes, pause: float = 0.0) -> str:
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        for part in parts:
                            connection.sendall(part)
                            if ended.wait(pause):
                                return
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(65536):
                            pass
                except OSError:
                    if ended.is_set():
                        return

        servers.append((listener, threading.Thread(target=serve, daemon=True)))
        servers[-1][1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    ended.set()
    for listener, thread in servers:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)  # before the next test's listener can have the number of its socket
        listener.close()


@contextlib.contextmanager
def grpc_serving(service: prediction_service_pb2_grpc.PredictionServiceServicer) -> Iterator[str]:
    """Serve TF Serving's Predict over gRPC; give the address."""
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None)
