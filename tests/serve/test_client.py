"""The client: against REST and gRPC servers of this process, servers that misbehave, and TF Serving if available."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from seqmnist_tf import client
from seqmnist_tf.serve import (
    SavedModel,
    answers,
    ask_rest,
    classify,
    exported_versions,
    http_limits,
    read_picture,
    server_address,
)
from seqmnist_tf.serve.app import WEB
from seqmnist_tf.serve.http_paths import read_labels
from seqmnist_tf.serve.models import ServedModels
from seqmnist_tf.system import InputError, RunError
from tests.conftest import Result, serving
from tests.serve.test_picture import DIGIT, beside, to_mnist
from tests.toy import ROOT, toy_mnist


@pytest.fixture
def digits(tmp_path: Path) -> list[Path]:
    """Return three pictures of toy digits, already in the form of MNIST."""
    paths = [tmp_path / f"digit {n}.png" for n in range(3)]
    for path, image in zip(paths, toy_mnist()["test"].images, strict=False):
        Image.fromarray(to_mnist(Image.fromarray(image))).save(path)
    return paths


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TF Serving's Predict over a SavedModel, with delays and errors on demand."""

    def __init__(self, model: SavedModel) -> None:
        self.model = model
        self.calls = 0
        self.label = ""

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        self.calls += 1
        self.label = request.model_spec.version_label
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        rows = {len(array) for array in inputs.values()}
        if rows == {2}:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "two are too many")
        if rows == {3}:
            threading.Event().wait(2)
        response = predict_pb2.PredictResponse()
        for name, value in self.model(request.model_spec.signature_name, **inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@pytest.fixture
def grpc_server(toy_versions: Path) -> Iterator[tuple[str, Service]]:
    service = Service(SavedModel.load(toy_versions / "2"))
    server = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}", service
    server.stop(None)


@pytest.fixture
def misbehaving() -> Iterator[Callable[[bytes], str]]:
    """Start a server that answers each connection with the given bytes, or never with none."""
    opened = []

    def start(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                opened.append(connection)
                if answer:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in opened:
        each.close()


def test_answers_are_the_models(
    command: Callable[..., Result], digits: list[Path], server: str, toy_versions: Path
) -> None:
    words = [str(path) for path in digits]
    result = command(client.main, *words, "--server", server, "--json")
    assert result.status == 0, result.err
    answers = json.loads(result.out)
    expected = SavedModel.load(toy_versions / "2")(images=np.stack([read_picture(path) for path in digits]))
    assert [answer["file"] for answer in answers] == words
    assert [answer["class_id"] for answer in answers] == expected["class_id"].tolist()
    np.testing.assert_allclose([a["probabilities"] for a in answers], expected["probabilities"], atol=1e-7)
    lines = command(client.main, *words, "--server", server).out.splitlines()
    assert lines[1] == f"{words[1]}  {expected['class_id'][1]}  ({expected['probabilities'][1].max():.1%})  unsure"


def test_grpc_answers_as_rest_does(
    command: Callable[..., Result], digits: list[Path], server: str, grpc_server: tuple[str, Service]
) -> None:
    rest, grpc_ = (
        json.loads(command(client.main, str(digits[0]), "--json", "--server", url).out)
        for url in (server, grpc_server[0])
    )
    assert rest == grpc_


def test_no_grpc_proxy_sees_the_pictures(grpc_server: tuple[str, Service], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert len(classify(toy_mnist()["test"].images[:1], grpc_server[0], timeout=5)) == 1


def test_a_label_chooses_the_version(
    command: Callable[..., Result], digits: list[Path], toy_versions: Path, grpc_server: tuple[str, Service]
) -> None:
    words = [str(digits[0]), "--json", "--label", "old"]
    expected = SavedModel.load(toy_versions / "1")(images=read_picture(digits[0])[None])
    with serving(ServedModels(exported_versions(toy_versions), {"old": 1})) as url:
        (answer,) = json.loads(command(client.main, *words, "--server", url).out)
        refused = command(client.main, str(digits[0]), "--label", "new", "--server", url)
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"][0], atol=1e-7)
    assert refused.status == 1 and "Unrecognized servable version label: new" in refused.err
    assert command(client.main, *words, "--server", grpc_server[0]).status == 0
    assert grpc_server[1].label == "old"
    bad = command(client.main, str(digits[0]), "--label", "a/b")
    assert bad.status == 2 and "--label must be 1 to 64 of A-Z, a-z, 0-9, _, . and - (got 'a/b')" in bad.err


def test_many_pictures_go_in_few_requests(server: str, grpc_server: tuple[str, Service]) -> None:
    images = np.tile(toy_mnist()["test"].images, (5, 1, 1))[:260]
    by_rest, by_grpc = classify(images, server), classify(images, grpc_server[0])
    assert len(by_rest) == len(by_grpc) == 260
    assert grpc_server[1].calls == 5  # of at most 64 images
    np.testing.assert_allclose([a.probabilities for a in by_rest], [a.probabilities for a in by_grpc], atol=1e-6)


def test_show_prints_the_models_input(command: Callable[..., Result], digits: list[Path], server: str) -> None:
    shown = command(client.main, str(digits[0]), "--server", server, "--show")
    assert "@@" in shown.out and len(shown.out.splitlines()) == 30
    as_json = command(client.main, str(digits[0]), "--server", server, "--show", "--json")
    assert "@@" in as_json.err and len(json.loads(as_json.out)) == 1


def test_each_answer_has_a_verdict(
    command: Callable[..., Result], in_tmp: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(DIGIT, DIGIT.resize((200, 200))).save("two.png")
    DIGIT.save("one.png")
    DIGIT.point(lambda _: 99).save("none.png")
    names = ["one.png", "none.png", "two.png"]
    for sure, first in ((0.0, "digit"), (1.1, "unsure")):
        monkeypatch.setattr(answers, "SURE", sure)
        result = command(client.main, *names, "--server", server, "--json")
        assert (result.status, result.err) == (0, "")
        one, none, two = json.loads(result.out)
        assert [row["verdict"] for row in (one, none, two)] == [first, "no digit", "several digits"]
        assert none == {"file": "none.png", "class_id": None, "probabilities": None, "verdict": "no digit"}
        assert two["probabilities"] == pytest.approx(one["probabilities"], abs=0.1)  # the larger of two equal digits
    lines = command(client.main, *names, "--server", server).out.splitlines()
    assert lines[0].endswith("%)  unsure")
    assert lines[1] == "none.png  no digit found (give one whole digit on plain paper)"
    assert lines[2].endswith("%)  several digits found: the largest is read")
    alone = command(client.main, "none.png", "--show", "--server", "http://127.0.0.1:1")  # nothing to ask a server
    assert alone.status == 0 and alone.out.count("no digit found") == 2


def test_a_servers_error_reaches_the_user(
    command: Callable[..., Result],
    digits: list[Path],
    grpc_server: tuple[str, Service],
    misbehaving: Callable[[bytes], str],
    monkeypatch: pytest.MonkeyPatch,
    server: str,
) -> None:
    words = [str(path) for path in digits]
    url, service = grpc_server
    result = command(client.main, *words[:2], "--server", url)
    assert (result.status, result.err) == (1, f"error: {url} answered INVALID_ARGUMENT: two are too many\n")
    assert service.calls == 1
    result = command(client.main, *words, "--server", url, "--timeout", "0.5")
    assert (result.status, result.err) == (
        1,
        f"error: {url} did not answer within 0.5 s (a longer --timeout may help)\n",
    )
    url = misbehaving(b'HTTP/1.1 503 x\r\ncontent-type: application/json\r\n\r\n{"error": "the model\\nis away"}')
    assert command(client.main, *words, "--server", url).err == f"error: {url} answered 503: the model is away\n"
    url = misbehaving(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert command(client.main, *words, "--server", url).err == f"error: {url} answered 200: hello\n"
    url = misbehaving(b"")
    assert command(client.main, *words, "--server", url, "--timeout=0.3").err.endswith(
        "did not answer within 0.3 s (a longer --timeout may help)\n"
    )
    monkeypatch.setattr(ask_rest, "MODEL_NAME", "other")
    assert command(client.main, *words, "--server", server).err == (
        f"error: {server} answered 404: Servable not found for request: Latest(other)\n"
    )


def test_only_connecting_is_tried_again(misbehaving: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((1, 28, 28), np.uint8)
    attempts = []
    real = socket.socket.connect

    def connect_refused(self: socket.socket, address: tuple[str, int]) -> None:
        attempts.append(address)
        if len(attempts) <= 2:
            raise ConnectionRefusedError(111, "Connection refused")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_refused)
    url = misbehaving(b'HTTP/1.1 500 x\r\n\r\n{"error": "once"}')
    with pytest.raises(RunError, match="answered 500: once"):
        classify(image, url)
    assert len(attempts) == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "grpc://127.0.0.1:9", "http://no.such.host.invalid:1"])
def test_no_server_is_one_line(
    command: Callable[..., Result], digits: list[Path], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_limits, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(http_limits, "BACKOFF_SECONDS", 0.01)
    result = command(client.main, str(digits[0]), "--server", url)
    assert result.status == 1 and result.err.startswith(f"error: cannot reach {url}: ")
    assert result.err.endswith(
        "(start a server with python -m seqmnist_tf.serve, or give another address with --server)\n"
    )


def test_bad_input_is_one_line(command: Callable[..., Result], digits: list[Path], in_tmp: Path) -> None:
    (in_tmp / "no.png").write_text("no picture")
    Image.new("L", (60, 60), 255).save(in_tmp / "blank.png")
    for words, message in (
        ([str(digits[0]), "no.png"], "no.png is not a readable picture"),
        (["missing.png"], "cannot read missing.png: No such file"),
        ([], "the following arguments are required: IMAGE"),
        ([str(digits[0]), "--timeout=0"], "--timeout must be a number of seconds above 0 and below 1,000,000 (got 0)"),
        (["blank.png", "--server", "nonsense"], "--server must be http://HOST:PORT"),
        ([str(digits[0]), "--timeout=soon"], "argument --timeout: invalid float value: 'soon'"),
        *(
            ([str(digits[0]), "--server", url], "--server must be http://HOST:PORT")
            for url in (
                "127.0.0.1:8501",
                "ftp://x:1",
                "http://",
                "http://h:99999",
                "http://h/path",
                "grpc://h:x",
                "http://user:word@h:1",
                "http://h\x1b[31m:1",
                "http://h:1/?x",
                "http://h:0",
                "http://127.0.0..1:8501",
                f"http://{'h' * 64}:1",
                "http://h:1#x",
            )
        ),
    ):
        result = command(client.main, *words)
        assert (result.status, result.out) == (2, "") and result.err.startswith(f"error: {message}"), (
            words,
            result.err,
        )
        assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://LOCALHOST", "http://localhost:80"),
        ("https://h/", "https://h:443"),
        ("GRPC://h", "grpc://h:8500"),
        ("http://[::1]", "http://[::1]:80"),
        ("http://h:1", "http://h:1"),
    ],
)
def test_an_address_has_one_form(given: str, address: str) -> None:
    assert server_address(given) == address


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 28, 28), np.uint8),
        np.zeros((1, 27, 28), np.uint8),
        np.zeros((1, 28, 28)),
        np.zeros((28, 28), np.uint8),
    ],
    ids=["no rows", "27 rows of pixels", "floats", "no batch"],
)
def test_images_of_another_kind_are_never_sent(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    for url in ("http://127.0.0.1:9", "grpc://127.0.0.1:9"):
        with pytest.raises(InputError, match=r"^images must be uint8 \(n, 28, 28\), n at least 1 \(got "):
            classify(images, url)


def test_who_is_waited_for_is_said_within_3_seconds(
    command: Callable[..., Result], digits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unanswered(*_: object) -> None:
        time.sleep(0.6)
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr(socket, "create_connection", unanswered)
    monkeypatch.setattr(http_limits, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(http_limits, "CONNECTION_TRIES", 1)
    for url in ("http://192.0.2.1:8501", "grpc://192.0.2.1:8500"):
        result = command(client.main, str(digits[0]), "--server", url)
        assert result.status == 1
        assert result.err.splitlines()[0] == f"waiting for {url}"
        assert result.err.splitlines()[1].startswith(f"error: cannot reach {url}: Connection timed out (start a server")
    monkeypatch.undo()
    assert http_limits.SILENT_SECONDS <= 3


class StandIn(BaseHTTPRequestHandler):
    """TF Serving's REST with batching, as far as rows go: more than ``limit`` are refused, none are never answered."""

    model: SavedModel
    limit: int
    rows: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        images = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]["images"]
        self.rows.append(len(images))
        if not images:
            threading.Event().wait(60)
        if len(images) > self.limit:
            text = f"Task size {len(images)} is larger than maximum input batch size {self.limit}"
            self.answer(400, {"error": text})
        else:
            outputs = self.model(images=np.array(images, np.uint8))
            self.answer(200, {"outputs": {name: value.tolist() for name, value in outputs.items()}})

    def answer(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stand_in(toy_versions: Path) -> Iterator[str]:
    StandIn.model, StandIn.limit = SavedModel.load(toy_versions / "2"), 64
    StandIn.rows.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()
        thread.join()


def test_200_pictures_in_one_call(
    command: Callable[..., Result], server: str, stand_in: str, in_tmp: Path, toy_versions: Path
) -> None:
    """Against the local server, and against TF Serving's limit of 64 rows, which a request of 128 broke."""
    images = np.tile(toy_mnist()["test"].images, (4, 1, 1))[:200]
    names = [f"{n:03}.png" for n in range(200)]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(to_mnist(Image.fromarray(image))).save(name)
    expected = SavedModel.load(toy_versions / "2")(images=np.stack([read_picture(name) for name in names]))
    for url in (server, stand_in):
        result = command(client.main, *names, "--server", url, "--json")
        assert result.status == 0, result.err
        answers = json.loads(result.out)
        assert [answer["class_id"] for answer in answers] == expected["class_id"].tolist()
        np.testing.assert_allclose([a["probabilities"] for a in answers], expected["probabilities"], atol=1e-6)
    assert StandIn.rows == [64, 64, 64, 8]


def test_the_stand_in_refuses_as_tf_serving_does(stand_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "CLIENT_ROWS", 128)
    with pytest.raises(RunError, match="answered 400: Task size 70 is larger than maximum input batch size 64"):
        classify(np.zeros((70, 28, 28), np.uint8), stand_in)
    with pytest.raises(InputError, match="n at least 1"):
        classify(np.zeros((0, 28, 28), np.uint8), stand_in)
    assert StandIn.rows == [70]


TF_SERVING = os.environ.get("TF_SERVING_URL", "")
needs_tf_serving = pytest.mark.skipif(not TF_SERVING, reason="TF_SERVING_URL is not set to a TF Serving")


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


@needs_tf_serving
def test_tf_serving_classifies_200_pictures_in_one_call() -> None:
    images, labels = sample_digits()
    answers = classify(np.tile(images, (20, 1, 1)), TF_SERVING)
    assert len(answers) == 200
    assert [answer.class_id for answer in answers] == np.tile(labels, 20).tolist()


@needs_tf_serving
def test_zero_rows_never_reach_tf_serving() -> None:
    with pytest.raises(InputError, match="n at least 1"):
        classify(np.zeros((0, 28, 28), np.uint8), TF_SERVING)
    images, labels = sample_digits()
    assert [answer.class_id for answer in classify(images, TF_SERVING)] == labels.tolist()  # it still answers


@needs_tf_serving
@pytest.mark.parametrize("version", [1, 2, "stable"])
def test_tf_serving_serves_both_versions_and_the_label(version: int | str) -> None:
    """Each is compared with the committed version that it must be."""
    folder = ROOT / "export" / "seqmnist"
    number = read_labels(folder)[version] if isinstance(version, str) else version
    images, _ = sample_digits()
    expected = SavedModel.load(folder / str(number))(images=images)
    if TF_SERVING.startswith("grpc://"):
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "seqmnist", "serving_default"
        if isinstance(version, str):
            request.model_spec.version_label = version
        else:
            request.model_spec.version.value = version
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
        with grpc.insecure_channel(TF_SERVING.removeprefix("grpc://")) as channel:
            response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
        assert response.model_spec.version.value == number
        outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    else:
        where = f"labels/{version}" if isinstance(version, str) else f"versions/{version}"
        url = f"{TF_SERVING}/v1/models/seqmnist/{where}:predict"
        outputs = requests.post(url, json={"inputs": {"images": images.tolist()}}, timeout=30).json()["outputs"]
    np.testing.assert_array_equal(outputs["class_id"], expected["class_id"])
    np.testing.assert_allclose(outputs["probabilities"], expected["probabilities"], atol=1e-5)
