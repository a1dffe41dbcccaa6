"""Classify images on TF Serving or the local server, over REST or gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from ..system import InputError, RunError, start_tensorflow
from .versions import MODEL_NAME

DEFAULT_SERVER = "http://127.0.0.1:8501"
IMAGES_PER_REQUEST = 128  # more images are sent in several requests
CONNECT_SECONDS = 3.0
CONNECTION_TRIES = 4
BACKOFF_SECONDS = 0.2  # before the second try; doubles before each further try


@dataclass(frozen=True)
class Classification:
    """The model's answer for one image: the most probable class, 0 to 9, and the probability of each class."""

    class_id: int
    probabilities: list[float]


def classify(images: np.ndarray, server: str = DEFAULT_SERVER, timeout: float = 30.0) -> list[Classification]:
    """Classify images of digits on a server.

    Failed connections are tried again; a request that was sent is never sent twice.

    Args:
        images: uint8 (n, 28, 28), 0 (background) to 255 (ink), in MNIST's form.
        server: ``http://host:port`` or ``https://host:port`` for REST, ``grpc://host:port`` for gRPC.
        timeout: seconds to wait for each answer; connecting has its own, shorter limit.

    Returns:
        One classification per image.

    Raises:
        InputError: ``server`` is not such an address.
        RunError: the server cannot be reached, does not answer in time, or answers with an error, which the message
            quotes.

    Example::

        image = read_picture("digit.png")
        (answer,) = classify(image[None], "http://127.0.0.1:8501")
        print(answer.class_id, answer.probabilities[answer.class_id])
    """
    parts = urlsplit(server)
    ask = {"http": _ask_rest, "https": _ask_rest, "grpc": _ask_grpc}.get(parts.scheme)
    if ask is None or not parts.hostname or not _port_is_valid(server) or parts.path not in ("", "/") or parts.query:
        raise InputError(f"--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT (got {server!r})")
    answers = []
    for start in range(0, len(images), IMAGES_PER_REQUEST):
        outputs = ask(server.rstrip("/"), images[start : start + IMAGES_PER_REQUEST], timeout)
        answers += [
            Classification(int(class_id), [float(p) for p in row])
            for class_id, row in zip(outputs["class_id"], outputs["probabilities"], strict=True)
        ]
    return answers


def _port_is_valid(server: str) -> bool:
    try:
        return urlsplit(server).port != 0
    except ValueError:
        return False


def _ask_rest(server: str, images: np.ndarray, timeout: float) -> dict[str, Any]:
    tries = CONNECTION_TRIES - 1
    retries = Retry(tries, connect=tries, read=0, status=0, redirect=0, other=0, backoff_factor=BACKOFF_SECONDS)
    url = f"{server}/v1/models/{MODEL_NAME}:predict"
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        try:
            body = {"inputs": {"images": images.tolist()}}
            answer = session.post(url, json=body, timeout=(CONNECT_SECONDS, timeout))
        except requests.ReadTimeout:
            raise _too_slow(server, timeout) from None
        except requests.RequestException as error:
            raise _unreachable(server, _reason(error)) from None
    try:
        document = answer.json()
        if answer.status_code == 200:
            return document["outputs"]
        text = document["error"]
    except (ValueError, TypeError, KeyError):
        text = answer.text.strip()[:200] or "an empty answer"
    raise RunError(f"{server} answered {answer.status_code}: {text}")


def _reason(error: BaseException) -> str:
    """Return the operating system's message: requests wraps an error of urllib3, which wraps the system's error."""
    argument = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    inner = getattr(error, "reason", None) or error.__cause__ or argument
    return _reason(inner) if isinstance(inner, BaseException) else getattr(error, "strerror", None) or str(error)


def _ask_grpc(server: str, images: np.ndarray, timeout: float) -> dict[str, Any]:
    start_tensorflow()
    from .ask_grpc import ask_grpc  # late: its messages need TensorFlow, for which a client over REST must not wait

    try:
        return ask_grpc(server, images, timeout, CONNECT_SECONDS)
    except ConnectionError as error:
        raise _unreachable(server, str(error)) from None
    except TimeoutError:
        raise _too_slow(server, timeout) from None


def _unreachable(server: str, reason: str) -> RunError:
    hint = "start a server with python -m seqmnist_tf.serve, or give another address with --server"
    return RunError(f"cannot reach {server}: {reason} ({hint})")


def _too_slow(server: str, timeout: float) -> RunError:
    return RunError(f"{server} did not answer within {timeout:g} s (a longer --timeout may help)")
