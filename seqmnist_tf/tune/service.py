"""The connection between a chief and its workers: JSON documents over gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import grpc

from ..system import InputError, first_line

NAME = "seqmnist_tf.Search"
THREADS = 16
CONNECT_MS = 2000
Method = Callable[[dict[str, Any]], dict[str, Any]]


class ChiefSilent(Exception):
    """The chief does not answer."""


class Unreadable(Exception):
    """The chief has answered with an error."""


def start_server(address: str, methods: Mapping[str, Method]) -> tuple[grpc.Server, int]:
    """Listen at ``HOST:PORT`` and return the server and its port; port 0 takes a free one.

    Raises:
        InputError: the address is not of this machine, or in use.
    """
    handlers = {name: grpc.unary_unary_rpc_method_handler(_handler(method)) for name, method in methods.items()}
    # Without the option, two processes of Linux may listen at one port, and share the calls between them.
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise InputError(f"--oracle must be a free address of this machine (got {address}: in use, or not of it)")
    server.start()
    return server, port


def _handler(method: Method) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            answer = method(json.loads(request))
        except Exception as error:  # the caller gets it, and the chief goes on
            answer = {"error": f"{type(error).__name__}: {first_line(error)}"}
        return json.dumps(answer).encode()

    return handle


class Line:
    """A worker's line to its chief.

    Args:
        address: ``HOST:PORT`` of the chief.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.initial_reconnect_backoff_ms", 500),
            ("grpc.min_reconnect_backoff_ms", CONNECT_MS),  # also the time limit of a connection
            ("grpc.max_reconnect_backoff_ms", CONNECT_MS),
        ]
        self._channel = grpc.insecure_channel(address, options=options)

    def call(self, method: str, timeout: float, **fields: Any) -> dict[str, Any]:
        """Call a method of the chief and return its answer.

        Raises:
            ChiefSilent: there is no answer within ``timeout`` seconds.
            Unreadable: the answer is an error, or not the chief's.
        """
        try:
            answer = json.loads(self._channel.unary_unary(f"/{NAME}/{method}")(json.dumps(fields).encode(), timeout))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise Unreadable(f"what listens at {self.address} is not the chief of a search") from None
            raise ChiefSilent from None
        except ValueError:
            raise Unreadable(f"what listens at {self.address} is not the chief of a search") from None
        if not isinstance(answer, dict) or "error" in answer:
            raise Unreadable(f"the chief at {self.address} answers: {answer}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
