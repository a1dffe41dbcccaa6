"""TF Serving's :predict over HTTP, with one time limit for the whole answer and a limit of its size."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..system import RunError, printable
from .http_limits import MAX_ANSWER_BYTES
from .versions import MODEL_NAME


class BoundedReader:
    """A server's stream that refuses to be read to its end: http.client does so for a chunk of a negative size."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes."""
        if size is None or size < 0:
            raise http.client.HTTPException("a chunk of a negative size")
        return bytes(self._stream.read(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def ask_rest(
    server: str, connection: socket.socket, images: np.ndarray, timeout: float, label: str | None = None
) -> tuple[int, bytes]:
    """Send one request over an open connection and return the answer's status and body.

    No redirect is followed, and no proxy is used: the pictures go to ``server`` and nowhere else.

    Args:
        server: ``http://host:port`` or ``https://host:port``.
        connection: a connection to it, which is closed here.
        images: uint8 (n, 28, 28).
        timeout: seconds until the last byte of the answer must be there.
        label: of the version to ask; None is the highest version.

    Raises:
        TimeoutError: the answer is not complete in time.
        ConnectionError: the connection breaks, or the answer is not HTTP.
        RunError: the answer is too large.
    """
    parts = urlsplit(server)
    # A time limit of a socket is for each part of an answer, and a server may send a byte a second.
    late = threading.Event()

    def cut_off() -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(timeout, cut_off)
    timer.daemon = True
    timer.start()
    try:
        connection.settimeout(None)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = context.wrap_socket(connection, do_handshake_on_connect=False, server_hostname=parts.hostname)
            connection.do_handshake()
        body = json.dumps({"inputs": {"images": images.tolist()}}).encode()
        answer = _exchange(server, connection, f"{MODEL_NAME}/labels/{label}" if label else MODEL_NAME, body)
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError from None
        reason = getattr(error, "strerror", None) or f"{type(error).__name__} {error}".strip()
        raise ConnectionError(printable(reason, 200)) from None
    finally:
        timer.cancel()
        connection.close()
    if late.is_set():  # a head that was cut off reads like one that is complete
        raise TimeoutError
    return answer


def _exchange(server: str, connection: socket.socket, model: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(server)
    exchange = http.client.HTTPConnection(parts.hostname or "", parts.port)
    exchange.sock = connection
    headers = {"Host": parts.netloc, "Content-Type": "application/json", "Connection": "close"}
    exchange.request("POST", f"/v1/models/{model}:predict", body, headers)
    answer = exchange.getresponse()
    answer.fp = BoundedReader(answer.fp)  # type: ignore[assignment]
    content = answer.read(MAX_ANSWER_BYTES + 1)
    if len(content) > MAX_ANSWER_BYTES:
        raise RunError(f"the answer of {server} is larger than {MAX_ANSWER_BYTES:,} bytes")
    if answer.length:
        raise http.client.IncompleteRead(content, answer.length)
    if answer.status in range(300, 400):
        raise RunError(f"{server} answered {answer.status}: a redirect, which is not followed (give the final address)")
    return answer.status, content
