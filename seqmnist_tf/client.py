"""Ask TF Serving, or the local server, which digits pictures show.

python -m seqmnist_tf.client IMAGE... [--server URL] [--json]
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from . import cli, picture
from .errors import InputError, RunError
from .saved_model import DEFAULT_SIGNATURE, MODEL_NAME

DEFAULT_SERVER = "http://127.0.0.1:8501"
IMAGES_PER_REQUEST = 128  # more are sent in several requests
CONNECT_SECONDS = 3.0
CONNECTION_TRIES = 4
BACKOFF_SECONDS = 0.2  # before the second try; twice as long before each further one


@dataclass(frozen=True)
class Answer:
    """What a model says of an image: the class, 0 to 9, and the ten classes' probabilities."""

    class_id: int
    probabilities: list[float]


def classify(images: np.ndarray, server: str = DEFAULT_SERVER, timeout: float = 30.0) -> list[Answer]:
    """Ask a server which digits images show.

    Connecting is tried more than once, a request that was sent never.

    Args:
        images: uint8 (n, 28, 28), in MNIST's form.
        server: ``http://host:port`` or ``https://`` for REST, ``grpc://host:port`` for gRPC.
        timeout: seconds for each answer; connecting has its own, shorter.

    Raises:
        InputError: ``server`` is no such address.
        RunError: it cannot be reached, does not answer in time, or answers with an error, whose text is in the message.
    """
    parts = urlsplit(server)
    ask = {"http": _ask_rest, "https": _ask_rest, "grpc": _ask_grpc}.get(parts.scheme)
    if ask is None or not parts.hostname or not _port_is_valid(server) or parts.path not in ("", "/") or parts.query:
        raise InputError(f"--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT (got {server!r})")
    answers = []
    for start in range(0, len(images), IMAGES_PER_REQUEST):
        outputs = ask(server.rstrip("/"), images[start : start + IMAGES_PER_REQUEST], timeout)
        answers += [
            Answer(int(class_id), [float(p) for p in row])
            for class_id, row in zip(outputs["class_id"], outputs["probabilities"], strict=True)
        ]
    return answers


def _port_is_valid(server: str) -> bool:
    try:
        return urlsplit(server).port != 0
    except ValueError:
        return False


def _ask_rest(server: str, images: np.ndarray, timeout: float) -> dict[str, Any]:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

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
    """Return what the system said, in an error of requests that wraps one of urllib3's that wraps the system's."""
    within = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    deeper = getattr(error, "reason", None) or error.__cause__ or within
    return _reason(deeper) if isinstance(deeper, BaseException) else getattr(error, "strerror", None) or str(error)


def _ask_grpc(server: str, images: np.ndarray, timeout: float) -> dict[str, Any]:
    import grpc

    from . import runtime

    runtime.import_tensorflow()
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL_NAME
    request.model_spec.signature_name = DEFAULT_SIGNATURE
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.removeprefix("grpc://"), options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            raise _unreachable(server, f"no connection within {CONNECT_SECONDS:g} s") from None
        try:
            response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _too_slow(server, timeout) from None
            raise RunError(f"{server} answered {error.code().name}: {error.details()}") from None
    return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def _unreachable(server: str, reason: str) -> RunError:
    start = "python -m seqmnist_tf.serve"
    return RunError(f"cannot reach {server}: {reason} (start a server with {start}, or give another with --server)")


def _too_slow(server: str, timeout: float) -> RunError:
    return RunError(f"{server} gave no answer within {timeout:g} s (--timeout allows more)")


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = cli.Parser(
        prog="python -m seqmnist_tf.client",
        description="Ask TF Serving, or seqmnist_tf.serve, which digits pictures show. Any picture will do:\n"
        "grey, colour or transparent, any size, dark on light or light on dark.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a picture of one digit")
    parser.add_argument(
        "--server",
        default=DEFAULT_SERVER,
        metavar="URL",
        help=f"http://HOST:8501 for REST, grpc://HOST:8500 for gRPC (default: {DEFAULT_SERVER})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--show", action="store_true", help="print each picture as the model sees it")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="how long to wait for an answer (default: 30)"
    )
    args = parser.parse_args(argv)
    if not 0 < args.timeout < 1e6:
        raise InputError(f"--timeout must be seconds above 0 (got {args.timeout:g})")
    images = np.stack([picture.read(path) for path in args.images])
    if args.show:
        for path, image in zip(args.images, images, strict=True):
            print(f"{path}\n{picture.to_text(image)}", file=sys.stderr if args.json else sys.stdout)
    answers = classify(images, args.server, args.timeout)
    if args.json:
        rows = zip(args.images, answers, strict=True)
        print(json.dumps([{"file": str(path), **dataclasses.asdict(answer)} for path, answer in rows]))
    else:
        width = max(len(str(path)) for path in args.images)
        for path, answer in zip(args.images, answers, strict=True):
            print(f"{path!s:{width}}  {answer.class_id}  ({answer.probabilities[answer.class_id]:.1%})")
    return cli.EXIT_DONE


if __name__ == "__main__":
    cli.run(main)
