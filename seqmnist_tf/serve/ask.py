"""Classify images on TF Serving or the local server, over REST or gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests

from ..system import InputError, RunError, note, start_tensorflow
from .versions import MODEL_NAME

DEFAULT_SERVER = "http://127.0.0.1:8501"
CONNECT_SECONDS = 3.0
CLIENT_ROWS = 64  # in one request; the size of TF Serving's batches
SURE = 0.8  # probability of an answer that is given without a doubt; the page's script has the same number


@dataclass(frozen=True)
class Classification:
    """The model's answer for one image: the most probable class, each class's probability, the version that answered.

    ``class_id`` is 0 to 9; ``probabilities`` are ten shares of 1.
    """

    class_id: int
    probabilities: list[float]
    version: int


def verdict(answer: Classification | None) -> str:
    """Return ``no digit``, where there is no answer, ``unsure`` for a probability below 0.8, or ``digit``."""
    if answer is None:
        return "no digit"
    return "digit" if answer.probabilities[answer.class_id] >= SURE else "unsure"


def classify(
    images: np.ndarray, server: str = DEFAULT_SERVER, timeout: float = 30.0, *, label: str | None = None
) -> list[Classification]:
    """Classify images of digits, uint8 (n, 28, 28), 0 (background) to 255 (ink), in requests of at most 64.

    ``server`` is ``http://host:port`` or ``https://host:port`` for REST, ``grpc://host:port`` for gRPC; ``timeout`` is
    in seconds for each answer; ``label``, such as ``stable``, asks TF Serving for the version of that label.

    Raises:
        InputError: ``server`` is not such an address.
        RunError: the server cannot be reached, does not answer in time, or answers with an error.
    """
    server = server.rstrip("/")
    if not server.startswith(("http://", "https://", "grpc://")):
        raise InputError(f"--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT (got {server})")
    ask = _ask_rest
    if server.startswith("grpc:"):
        note(f"loading TensorFlow's messages for {server}")
        start_tensorflow()
        from .ask_grpc import ask_grpc as ask  # late: its messages need TensorFlow, for which REST must not wait
    batches = [images[start : start + CLIENT_ROWS] for start in range(0, len(images), CLIENT_ROWS)]
    try:
        return [
            Classification(int(class_id), np.asarray(row, float).tolist(), version)
            for outputs, version in ask(server, batches, timeout, label)
            for class_id, row in zip(outputs["class_id"], outputs["probabilities"], strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"the answer of {server} is not the one of a digit classifier: {error!r}") from None


def _ask_rest(
    server: str, batches: list[np.ndarray], timeout: float, label: str | None
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the outputs for each batch, and the version, which is the label's at the first request."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment would answer in the server's place

        def call(method: str, path: str, document: Any = None) -> Any:
            options: dict[str, Any] = {"timeout": (CONNECT_SECONDS, timeout), "allow_redirects": False}
            try:
                response = session.request(method, f"{server}/v1/models/{MODEL_NAME}{path}", json=document, **options)
            except requests.RequestException as error:
                hint = "python -m seqmnist_tf.serve starts one"
                raise RunError(f"cannot reach {server}: {type(error).__name__} ({hint})") from None
            if response.status_code != 200:
                raise RunError(f"{server} answered {response.status_code}: {response.text[:300]}")
            return response.json()

        metadata = call("GET", f"/labels/{label}/metadata" if label else "/metadata")
        version = int(metadata["model_spec"]["version"])
        for images in batches:
            document = {"inputs": {"images": images.tolist()}}
            yield call("POST", f"/versions/{version}:predict", document)["outputs"], version
