"""Classify images on TF Serving or the local server, over REST or gRPC.

Of a server's answer only what the client asked for goes on; anything else is one line.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

import h11
import numpy as np

from ..config import NUM_CLASSES
from ..system import InputError, RunError, call_when_slow, note, printable, start_tensorflow
from .versions import IMAGE_SIDE, MODEL_NAME

DEFAULT_SERVER = "http://127.0.0.1:8501"
DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 8500}
CLIENT_ROWS = 64  # in one request; the size of TF Serving's batches
MAX_ANSWER_BYTES = 4 * 2**20
CONNECT_SECONDS, CONNECTION_TRIES = 3.0, 4
BACKOFF_SECONDS = 0.2  # before the second try; doubles before each further try
SILENT_SECONDS = 2.0  # after which the client says whom it waits for
SURE = 0.8  # probability of an answer that is given without a doubt; the page's script has the same number
ROUNDING = 1e-3  # by which a server's probabilities may leave 0 to 1, and their sum 1


@dataclass(frozen=True)
class Classification:
    """The model's answer for one image: the most probable class, 0 to 9, and the probability of each class."""

    class_id: int
    probabilities: list[float]


def verdict(digits: int, answer: Classification | None) -> str:
    """Return ``no digit``, ``several digits``, ``unsure`` or ``digit``: how far an answer can be relied on.

    Args:
        digits: number of digits that were found in the picture.
        answer: the model's answer for the largest of them; None where there is none.

    Example::

        verdict(1, Classification(7, [0.0] * 7 + [0.6, 0.4, 0.0]))  # 'unsure': 0.6 is less than SURE
    """
    if answer is None:
        return "no digit"
    if digits > 1:
        return "several digits"
    return "digit" if answer.probabilities[answer.class_id] >= SURE else "unsure"


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

        image = prepare_picture("digit.png").image
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
    for start in range(0, len(images), CLIENT_ROWS):
        try:
            answers += ask(server, images[start : start + CLIENT_ROWS], timeout, label)
        except TimeoutError:
            raise RunError(f"{server} did not answer within {timeout:g} s (a longer --timeout may help)") from None
        except ConnectionError as error:
            raise _unreachable(server, str(error)) from None
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


def _ask_grpc(server: str, images: np.ndarray, timeout: float, label: str | None) -> list[Classification]:
    _connect(server).close()  # first, so that nobody waits for TensorFlow to learn that there is no server
    if "tensorflow" not in sys.modules:
        note(f"loading TensorFlow's messages for {server}")
    start_tensorflow()
    from .ask_grpc import ask_grpc  # late: its messages need TensorFlow, for which REST must not wait

    return _check_outputs(server, ask_grpc(server, images, timeout, label, CONNECT_SECONDS, MAX_ANSWER_BYTES), images)


def _ask_rest(server: str, images: np.ndarray, timeout: float, label: str | None) -> list[Classification]:
    """Send one request to a server and return its answers.

    No redirect is followed, and no proxy is used: the pictures go to ``server`` and nowhere else. HTTP itself is h11's:
    the clients that are built on it have time limits for the parts of an answer only, and a server may send a byte a
    second.
    """
    model = f"{MODEL_NAME}/labels/{label}" if label else MODEL_NAME
    body = json.dumps({"inputs": {"images": images.tolist()}}).encode()
    headers = {"Host": urlsplit(server).netloc, "Content-Type": "application/json", "Connection": "close"}
    request = h11.Request(
        method="POST",
        target=f"/v1/models/{model}:predict",
        headers=[*headers.items(), ("Content-Length", str(len(body)))],
    )
    events = [request, h11.Data(data=body), h11.EndOfMessage()]
    try:
        with _connect(server) as connection:  # of https, what is encrypted is closed in _exchange
            status, content = _exchange(server, connection, events, timeout)
    except TimeoutError:
        raise
    except (OSError, h11.RemoteProtocolError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ConnectionError(printable(reason, 200)) from None
    if status in range(300, 400):
        raise RunError(f"{server} answered {status}: a redirect, which is not followed (give the final address)")
    return _parse_answer(server, status, content, images)


def _exchange(server: str, connection: socket.socket, request: list[h11.Event], timeout: float) -> tuple[int, bytes]:
    """Send a request over a connection and close it; return the answer, complete in ``timeout``: status and body."""
    deadline = time.monotonic() + timeout

    def limit_time() -> None:
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(left)

    limit_time()
    if server.startswith("https:"):
        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=urlsplit(server).hostname)
    exchange = h11.Connection(h11.CLIENT)
    status, content = 0, bytearray()
    with connection:
        limit_time()
        connection.sendall(b"".join(exchange.send(event) or b"" for event in request))
        while not isinstance(event := exchange.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                limit_time()
                exchange.receive_data(connection.recv(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += event.data
                if len(content) > MAX_ANSWER_BYTES:
                    raise RunError(f"the answer of {server} is larger than {MAX_ANSWER_BYTES:,} bytes")
    return status, bytes(content)


def _connect(server: str) -> socket.socket:
    """Return a connection to a server, after several tries."""
    parts = urlsplit(server)
    pauses = [BACKOFF_SECONDS * 2**n for n in range(CONNECTION_TRIES - 1)]
    with call_when_slow(SILENT_SECONDS, note, f"waiting for {server}"):
        while True:
            try:
                return socket.create_connection((parts.hostname or "", parts.port or 0), CONNECT_SECONDS)
            except OSError as error:
                if not pauses or isinstance(error, socket.gaierror):
                    raise _unreachable(server, error.strerror or str(error)) from None
            time.sleep(pauses.pop(0))


def _unreachable(server: str, reason: str) -> RunError:
    start = "start a server with python -m seqmnist_tf.serve"
    if server.startswith("grpc:"):
        start = "start TF Serving; python -m seqmnist_tf.serve has REST only, at http://HOST:8501"
    return RunError(f"cannot reach {server}: {reason} ({start}, or give another address with --server)")


def _parse_answer(server: str, status: int, body: bytes, images: np.ndarray) -> list[Classification]:
    """Return the classifications in the body of a REST answer, or quote it in a RunError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if status == 200 and isinstance(document, dict) and "outputs" in document:
        return _check_outputs(server, document["outputs"], images)
    error = document.get("error") if isinstance(document, dict) else None
    text = error if isinstance(error, str) and error.strip() else body[:2000].decode("utf-8", "replace")
    quote = printable(" ".join(text.split()), 200)
    raise RunError(f"{server} answered {status}: {quote or 'an empty answer'}")


def _check_outputs(server: str, outputs: Any, images: np.ndarray) -> list[Classification]:
    """Return the classifications in the outputs of ``serving_default``: lists by name.

    Raises:
        RunError: an output is missing, or has another number of rows, another type, or another range.
    """
    rows = len(images)
    missing = {"class_id", "probabilities"} - set(outputs if isinstance(outputs, dict) else ())
    if missing:
        _refuse(server, f"{' and '.join(sorted(missing))} missing")
    # Of objects: an array of texts takes as much memory for each text as for the longest.
    class_ids, probabilities = (np.array(outputs[name], object) for name in ("class_id", "probabilities"))
    if class_ids.shape != (rows,) or set(map(type, class_ids)) != {int}:
        _refuse(server, f"class_id must be integers of shape {(rows,)}")
    if probabilities.shape != (rows, NUM_CLASSES) or not set(map(type, probabilities.flat)) <= {int, float}:
        _refuse(server, f"probabilities must be numbers of shape {(rows, NUM_CLASSES)}")
    if not all(0 <= class_id < NUM_CLASSES for class_id in class_ids):
        _refuse(server, f"class_id must be 0 to {NUM_CLASSES - 1}")
    in_range = all(-ROUNDING <= p <= 1 + ROUNDING for p in probabilities.flat)  # NaN is not in range
    if not (in_range and all(abs(sum(row) - 1) <= ROUNDING for row in probabilities)):
        _refuse(server, "probabilities must be numbers of 0 to 1 whose sum is 1")
    return [Classification(*row) for row in zip(class_ids.tolist(), probabilities.astype(float).tolist(), strict=True)]


def _refuse(server: str, problem: str) -> NoReturn:
    raise RunError(f"the answer of {server} is not the one of a digit classifier: {problem}")
