"""Classify images on TF Serving or the local server, over REST or gRPC."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np

from ..system import InputError, RunError, note, start_tensorflow
from . import http_limits
from .answers import Classification, check_outputs, parse_answer
from .ask_rest import ask_rest
from .strokes import IMAGE_SIDE

DEFAULT_SERVER = "http://127.0.0.1:8501"
DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 8500}


def classify(
    images: np.ndarray, server: str = DEFAULT_SERVER, timeout: float = 30.0, *, label: str | None = None
) -> list[Classification]:
    """Classify images of digits on a server.

    Images are sent in requests of at most 64. Failed connections are tried again; a request that was sent is never sent
    twice. Where connecting takes more than two seconds, a note says so.

    Args:
        images: uint8 (n, 28, 28), 0 (background) to 255 (ink), in MNIST's form; n at least 1.
        server: ``http://host:port`` or ``https://host:port`` for REST, ``grpc://host:port`` for gRPC.
        timeout: seconds to wait for each answer; connecting has its own, shorter limit.
        label: of the version to ask, such as ``stable``; None is the highest version that the server has.

    Returns:
        One classification per image.

    Raises:
        InputError: ``server`` is not such an address, ``images`` are not such images, or ``label`` is no label.
        RunError: the server cannot be reached, does not answer in time, or answers with an error, which the message
            quotes, or with anything but a classification of each image.

    Example::

        image = read_picture("digit.png")
        (answer,) = classify(image[None], "http://127.0.0.1:8501")
        print(answer.class_id, answer.probabilities[answer.class_id])
    """
    server = server_address(server)
    label = version_label(label)
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIDE, IMAGE_SIDE) or not len(images):
        # Zero images would make TF Serving with batching wait for ever.
        raise InputError(
            f"images must be uint8 (n, {IMAGE_SIDE}, {IMAGE_SIDE}), n at least 1 (got {images.dtype} {images.shape})"
        )
    ask = _ask_grpc if server.startswith("grpc:") else _ask_rest
    answers = []
    for start in range(0, len(images), http_limits.CLIENT_ROWS):
        answers += ask(server, images[start : start + http_limits.CLIENT_ROWS], timeout, label)
    return answers


def server_address(server: str) -> str:
    """Return the address of a server in one form: with its port, and without a slash at its end.

    Raises:
        InputError: it is not an address of the three kinds, or has other than plain characters.

    Example:
        >>> server_address("GRPC://localhost/")
        'grpc://localhost:8500'
    """
    try:
        parts = urlsplit(server)
        host = parts.hostname or ""
        host.encode("idna")  # each label has 1 to 63 letters
        good = parts.scheme in DEFAULT_PORTS and host and parts.port != 0
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"\w+://[\w.:\[\]-]+/?", server, re.ASCII):
        raise InputError(f"--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT (got {server!r})")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def version_label(label: str | None) -> str | None:
    """Return the label of a version, or raise InputError where it is none."""
    if label is not None and not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", label):
        raise InputError(f"--label must be 1 to 64 of A-Z, a-z, 0-9, _, . and - (got {label!r})")
    return label


def _ask_rest(server: str, images: np.ndarray, timeout: float, label: str | None) -> list[Classification]:
    connection = _connect(server)
    try:
        status, body = ask_rest(server, connection, images, timeout, label)
    except TimeoutError:
        raise _too_slow(server, timeout) from None
    except ConnectionError as error:
        raise _unreachable(server, str(error)) from None
    return parse_answer(server, status, body, len(images))


def _ask_grpc(server: str, images: np.ndarray, timeout: float, label: str | None) -> list[Classification]:
    _connect(server).close()  # first, so that nobody waits for TensorFlow to learn that there is no server
    with _note_when_slow(f"loading TensorFlow's messages for {server}"):
        start_tensorflow()
        from .ask_grpc import ask_grpc  # late: its messages need TensorFlow, for which REST must not wait

    try:
        outputs = ask_grpc(server, images, timeout, http_limits.CONNECT_SECONDS, label)
    except ConnectionError as error:
        raise _unreachable(server, str(error)) from None
    except TimeoutError:
        raise _too_slow(server, timeout) from None
    return check_outputs(server, outputs, len(images))


def _connect(server: str) -> socket.socket:
    """Return a connection to a server, after several tries.

    Raises:
        RunError: it cannot be reached.
    """
    parts = urlsplit(server)
    address = parts.hostname or "", parts.port or 0
    pauses = [http_limits.BACKOFF_SECONDS * 2**n for n in range(http_limits.CONNECTION_TRIES - 1)]
    with _note_when_slow(f"waiting for {server}"):
        while True:
            try:
                return socket.create_connection(address, http_limits.CONNECT_SECONDS)
            except OSError as error:
                if not pauses or isinstance(error, socket.gaierror):
                    raise _unreachable(server, error.strerror or str(error)) from None
            time.sleep(pauses.pop(0))


@contextlib.contextmanager
def _note_when_slow(text: str) -> Iterator[None]:
    """Say on stderr what the client does if it takes more than two seconds."""
    timer = threading.Timer(http_limits.SILENT_SECONDS, note, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _unreachable(server: str, reason: str) -> RunError:
    hint = "start a server with python -m seqmnist_tf.serve, or give another address with --server"
    return RunError(f"cannot reach {server}: {reason} ({hint})")


def _too_slow(server: str, timeout: float) -> RunError:
    return RunError(f"{server} did not answer within {timeout:g} s (a longer --timeout may help)")
