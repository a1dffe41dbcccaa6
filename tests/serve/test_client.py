"""The client: against REST and gRPC servers of this process, and TF Serving if available."""

from __future__ import annotations

import base64
import http.server
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from seqmnist_tf import client
from seqmnist_tf.serve import SavedModel, ask, classify, prepare_picture, server_address
from seqmnist_tf.serve.app import WEB
from seqmnist_tf.system import InputError, RunError
from tests.conftest import Command
from tests.serve.conftest import grpc_serving
from tests.toy import ROOT, toy_mnist


@pytest.fixture
def digits(in_tmp: Path) -> list[str]:
    """Write three pictures of toy digits into a folder; return their paths."""
    paths = [f"pictures/{n}.png" for n in range(3)]
    Path("pictures").mkdir()
    for path, image in zip(paths, toy_mnist()["test"].images, strict=False):
        Image.fromarray(255 - image).resize((140, 140)).save(path)
    return paths


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
    service = Service(toy_model)
    with grpc_serving(service) as url:
        yield url, service


def prepared(path: str) -> np.ndarray:
    image = prepare_picture(path)
    assert image is not None
    return image


def test_answers_are_the_models(command: Command, digits: list[str], server: str, toy_model: SavedModel) -> None:
    Image.new("L", (60, 60), 255).save("blank.png")
    expected = toy_model(images=np.stack([prepared(path) for path in digits]))
    result = command(client.main, "pictures", "blank.png", "--server", server, "--json")
    assert (result.status, result.err) == (0, f"version 2 at {server} answered\n")
    *answers, blank = json.loads(result.out)
    assert [answer["file"] for answer in answers] == digits
    assert [answer["class_id"] for answer in answers] == expected["class_id"].tolist()
    np.testing.assert_array_equal(
        np.array([a["probabilities"] for a in answers], np.float32), expected["probabilities"]
    )
    assert {(answer["version"], answer["verdict"]) for answer in answers} <= {(2, "unsure"), (2, "digit")}
    nothing = {"class_id": None, "probabilities": None, "version": None, "verdict": "no digit"}
    assert blank == {"file": "blank.png", **nothing}
    lines = command(client.main, *digits, "blank.png", "--server", server).out.splitlines()
    shown = f"{digits[1]}  {expected['class_id'][1]}  ({expected['probabilities'][1].max():.1%})"
    assert lines[1].removesuffix("  unsure") == shown
    assert lines[3].split(maxsplit=1) == ["blank.png", "no digit found"]


def test_stdin_and_show(command: Command, digits: list[str], server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(digits[0]).read_bytes())))
    shown = command(client.main, "-", "--server", server, "--show")
    assert "@@" in shown.out and len(shown.out.splitlines()) == 30


def test_an_answer_is_sure_from_a_probability_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for probability, said in ((0.81, "digit"), (0.79, "unsure")):
        rest = [1 - probability, *[0.0] * 8]
        assert ask.verdict(ask.Classification(0, [probability, *rest], 1)) == said
    assert ask.verdict(None) == "no digit"


def test_200_images_are_sent_in_requests_of_64(server: str, grpc_server: tuple[str, Service]) -> None:
    """TF Serving with batching refuses more than 64 rows in a request, and never answers a request of none."""
    url, service = grpc_server
    images = np.tile(toy_mnist()["test"].images, (4, 1, 1))[:200]
    over_rest, over_grpc = classify(images, server), classify(images, url, label="canary")
    assert [answer.class_id for answer in over_rest] == [answer.class_id for answer in over_grpc]
    assert over_rest[0].probabilities == over_grpc[0].probabilities
    assert (over_rest[0].version, over_grpc[0].version) == (2, 5)
    assert (service.rows, service.label) == ([64, 64, 64, 8], "canary")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_proxy_sees_the_pictures(
    scheme: str, server: str, grpc_server: tuple[str, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    url = server if scheme == "http" else grpc_server[0]
    assert len(classify(toy_mnist()["test"].images[:1], url, timeout=60)) == 1


def test_a_servers_error_reaches_the_user(
    command: Command, digits: list[str], grpc_server: tuple[str, Service]
) -> None:
    url, service = grpc_server
    result = command(client.main, *digits[:2], "--server", url)
    assert result.status == 1 and result.err.endswith(f"error: {url} answered INVALID_ARGUMENT: two are too many\n")
    result = command(client.main, *digits, "--server", url, "--timeout", "0.5")
    assert result.status == 1 and "DEADLINE_EXCEEDED" in result.err
    assert service.rows == [2, 3]


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"no JSON"), (200, b"[]"), (200, b'{"model_spec": {}}'), (302, b""), (500, b'{"error": "once"}')],
)
def test_another_server_is_an_error(status: int, body: bytes) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as other:
        url = f"http://127.0.0.1:{other.server_port}"
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        with pytest.raises(RunError, match=url):
            classify(np.zeros((1, 28, 28), np.uint8), url)
        thread.join()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "grpc://127.0.0.1:9", "http://no.such.host.invalid:1"])
def test_no_server_is_one_line(command: Command, digits: list[str], url: str) -> None:
    result = command(client.main, digits[0], "--server", url)
    assert result.status == 1 and result.err.splitlines()[-1].startswith(f"error: cannot reach {url} (")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["no.png", "pictures/0.png"], "no.png"),
        (["missing.png"], "missing.png"),
        (["empty"], "empty"),
        ([], "IMAGE"),
        (["pictures/0.png", "--timeout=soon"], "--timeout"),
        *(
            (["pictures/0.png", "--server", url], "--server")
            for url in (
                "127.0.0.1:8501",
                "ftp://x:1",
                "http://",
                "http://h/path",
                "http://user:word@h:1",
                "http://h:1/?x",
            )
        ),
    ],
)
def test_bad_input_is_one_line(command: Command, digits: list[str], words: list[str], named: str) -> None:
    Path("no.png").write_text("no picture")
    Path("empty").mkdir()
    result = command(client.main, *words)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("error: ") and named in result.err


def test_an_address_has_one_form() -> None:
    assert [server_address(url) for url in ("https://h/", "grpc://h:1", "http://[::1]")] == [
        *("https://h", "grpc://h:1", "http://[::1]")
    ]


@pytest.mark.parametrize(
    "images", [np.zeros((0, 28, 28), np.uint8), np.zeros((1, 27, 28), np.uint8), np.zeros((1, 28, 28))]
)
def test_images_of_another_kind_are_never_sent(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="images must be uint8"):
        classify(images, "http://127.0.0.1:9")


def sample_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the page's sample digits uint8 (10, 28, 28), and their labels."""
    samples = json.loads((WEB / "samples.json").read_text())
    pixels = [np.frombuffer(base64.b64decode(sample["pixels"]), np.uint8).reshape(28, 28) for sample in samples]
    return np.stack(pixels), np.array([sample["label"] for sample in samples])


@pytest.mark.parametrize("version", [1, 2])
def test_the_sample_digits_are_classified_correctly(version: int) -> None:
    images, labels = sample_digits()
    answers = SavedModel.load(ROOT / "export" / "seqmnist" / str(version))(images=images)
    assert labels.tolist() == list(range(10))
    assert answers["class_id"].tolist() == labels.tolist()
    assert answers["probabilities"].max(axis=1).min() > 0.95


@pytest.mark.skipif("TF_SERVING_URL" not in os.environ, reason="TF_SERVING_URL is not set to a TF Serving")
@pytest.mark.parametrize("label", [None, "stable"])
def test_tf_serving_classifies_200_pictures_in_one_call(label: str | None) -> None:
    images, labels = sample_digits()
    answers = classify(np.tile(images, (20, 1, 1)), os.environ["TF_SERVING_URL"], label=label)
    assert [answer.class_id for answer in answers] == np.tile(labels, 20).tolist()
    assert {answer.version for answer in answers} == {2}
