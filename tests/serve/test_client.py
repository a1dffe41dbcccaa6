"""The client: against REST and gRPC servers of this process, servers that misbehave, and TF Serving if available."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from seqmnist_tf import client
from seqmnist_tf.serve import SavedModel, ask, classify, server_address
from seqmnist_tf.serve.app import WEB
from seqmnist_tf.serve.models import ServedModels, read_labels
from seqmnist_tf.system import InputError, RunError
from tests.conftest import Command, Result, serving, with_labels
from tests.serve.conftest import Start, grpc_serving
from tests.serve.test_picture import DIGIT, beside, read_picture, to_mnist
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
        response = predict_pb2.PredictResponse()
        for name, value in self.model(request.model_spec.signature_name, **inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@pytest.fixture
def grpc_server(toy_models: ServedModels) -> Iterator[tuple[str, Service]]:
    service = Service(toy_models.get(2))
    with grpc_serving(service) as url:
        yield url, service


def test_answers_are_the_models(command: Command, digits: list[Path], server: str, toy_models: ServedModels) -> None:
    words = [str(path) for path in digits]
    result = command(client.main, *words, "--server", server, "--json")
    assert result.status == 0, result.err
    answers = json.loads(result.out)
    expected = toy_models.get(2)(images=np.stack([read_picture(path) for path in digits]))
    assert [answer["file"] for answer in answers] == words
    assert [answer["class_id"] for answer in answers] == expected["class_id"].tolist()
    np.testing.assert_allclose([a["probabilities"] for a in answers], expected["probabilities"], atol=1e-7)
    lines = command(client.main, *words, "--server", server).out.splitlines()
    assert lines[1] == f"{words[1]}  {expected['class_id'][1]}  ({expected['probabilities'][1].max():.1%})  unsure"


def test_no_grpc_proxy_sees_the_pictures(grpc_server: tuple[str, Service], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert len(classify(toy_mnist()["test"].images[:1], grpc_server[0], timeout=5)) == 1


def test_a_label_chooses_the_version(
    command: Command, digits: list[Path], toy_models: ServedModels, grpc_server: tuple[str, Service]
) -> None:
    words = [str(digits[0]), "--json", "--label", "old"]
    expected = toy_models.get(1)(images=read_picture(digits[0])[None])
    with serving(with_labels(toy_models, old=1)) as url:
        (answer,) = json.loads(command(client.main, *words, "--server", url).out)
        refused = command(client.main, str(digits[0]), "--label", "new", "--server", url)
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"][0], atol=1e-7)
    assert refused.status == 1 and "Unrecognized servable version label: new" in refused.err
    assert command(client.main, *words, "--server", grpc_server[0]).status == 0
    assert grpc_server[1].label == "old"
    bad = command(client.main, str(digits[0]), "--label", "a/b")
    assert bad.status == 2 and "--label must be 1 to 64 of A-Z, a-z, 0-9, _, . and - (got 'a/b')" in bad.err


def test_200_pictures_in_one_call(
    command: Command,
    server: str,
    grpc_server: tuple[str, Service],
    in_tmp: Path,
    toy_models: ServedModels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TF Serving with batching refuses more than 64 rows in a request, and never answers a request of none."""
    images = np.tile(toy_mnist()["test"].images, (4, 1, 1))[:200]
    for n, image in enumerate(images):
        Image.fromarray(to_mnist(Image.fromarray(image))).save(f"{n:03}.png")
    expected = toy_models.get(2)(images=np.stack([read_picture(f"{n:03}.png") for n in range(200)]))
    sent: list[int] = []

    def record(server: str, images: np.ndarray, *args: Any) -> Any:
        sent.append(len(images))
        return ask_rest(server, images, *args)

    ask_rest = ask._ask_rest
    monkeypatch.setattr(ask, "_ask_rest", record)
    for url in (server, grpc_server[0]):
        result = command(client.main, ".", "--server", url, "--json")
        assert result.status == 0, result.err
        answers = json.loads(result.out)
        assert [answer["class_id"] for answer in answers] == expected["class_id"].tolist()
        np.testing.assert_allclose([a["probabilities"] for a in answers], expected["probabilities"], atol=1e-6)
    assert sent == grpc_server[1].rows == [64, 64, 64, 8]


def test_show_prints_the_models_input(command: Command, digits: list[Path], server: str) -> None:
    shown = command(client.main, str(digits[0]), "--server", server, "--show")
    assert "@@" in shown.out and len(shown.out.splitlines()) == 30
    as_json = command(client.main, str(digits[0]), "--server", server, "--show", "--json")
    assert "@@" in as_json.err and len(json.loads(as_json.out)) == 1


def test_each_answer_has_a_verdict(
    command: Command, in_tmp: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(DIGIT, DIGIT.resize((200, 200))).save("two.png")
    DIGIT.save("one.png")
    DIGIT.point(lambda _: 99).save("none.png")
    names = ["one.png", "none.png", "two.png"]
    for sure, first in ((0.0, "digit"), (1.1, "unsure")):
        monkeypatch.setattr(ask, "SURE", sure)
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


def test_folders_stdin_and_unreadable_pictures(
    command: Command, digits: list[Path], server: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture of many that cannot be read is a line of its own, and the exit status is 1."""
    (in_tmp / "folder" / "deeper").mkdir(parents=True)
    for path, name in zip(digits, ("b.PNG", "a.png", "notes.txt"), strict=True):
        shutil.copyfile(path, in_tmp / "folder" / name)
    (in_tmp / "folder" / "c.jpg").write_text("no picture")
    (in_tmp / "empty").mkdir()
    words = ["folder", "-", "missing.png", str(digits[0]), str(digits[0]), "empty", "--server", server]

    def ask(*more: str) -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(digits[2].read_bytes())))
        return command(client.main, *words, *more)

    result = ask("--json")
    assert (result.status, result.err) == (1, "")
    rows = json.loads(result.out)
    files = ["folder/a.png", "folder/b.PNG", "folder/c.jpg", "-", "missing.png", *[str(digits[0])] * 2, "empty"]
    assert [row["file"] for row in rows] == files
    bad = {row["file"]: row["error"] for row in rows if row["verdict"] == "unreadable"}
    assert list(bad) == ["folder/c.jpg", "missing.png", "empty"]
    assert all(row["class_id"] is row["probabilities"] is None for row in rows if "error" in row)
    monkeypatch.setattr(sys, "stdin", None)  # as after <&-
    assert "stdin is not a readable picture" in command(client.main, "-", "--server", server).err
    whole = classify(np.stack([read_picture(path) for path in digits]), server)
    assert [row["class_id"] for row in rows if "error" not in row] == [whole[n].class_id for n in (1, 0, 2, 0, 0)]
    lines = ask("--show").out.splitlines()[-8:]
    assert (
        lines[2] == "folder/c.jpg is not a readable picture (give a PNG, JPEG, WebP, GIF, BMP or TIFF)" == bad[files[2]]
    )
    assert lines[4] == "cannot read missing.png: No such file or directory"
    assert lines[7].startswith("no picture in empty (")
    assert lines[3].startswith(f"-{' ' * len(str(digits[0]))} {whole[2].class_id}  (")


def test_a_servers_error_reaches_the_user(
    command: Command,
    digits: list[Path],
    grpc_server: tuple[str, Service],
    answering: Start,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
) -> None:
    words = [str(path) for path in digits]
    url, service = grpc_server
    result = command(client.main, *words[:2], "--server", url)
    assert (result.status, result.err) == (1, f"error: {url} answered INVALID_ARGUMENT: two are too many\n")
    assert service.rows == [2]
    result = command(client.main, *words, "--server", url, "--timeout", "0.5")
    assert (result.status, result.err) == (
        1,
        f"error: {url} did not answer within 0.5 s (a longer --timeout may help)\n",
    )
    monkeypatch.setattr(ask, "MODEL_NAME", "other")
    assert command(client.main, *words, "--server", server).err == (
        f"error: {server} answered 404: Servable not found for request: Latest(other)\n"
    )


def test_only_connecting_is_tried_again(answering: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((1, 28, 28), np.uint8)
    attempts = []
    real = socket.socket.connect

    def connect_refused(self: socket.socket, address: tuple[str, int]) -> None:
        attempts.append(address)
        if len(attempts) <= 2:
            raise ConnectionRefusedError(111, "Connection refused")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_refused)
    url = answering(b'HTTP/1.1 500 x\r\n\r\n{"error": "once"}')
    with pytest.raises(RunError, match="answered 500: once"):
        classify(image, url)
    assert len(attempts) == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "grpc://127.0.0.1:9", "http://no.such.host.invalid:1"])
def test_no_server_is_one_line(command: Command, digits: list[Path], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(ask, "BACKOFF_SECONDS", 0.01)
    result = command(client.main, str(digits[0]), "--server", url)
    assert result.status == 1 and result.err.startswith(f"error: cannot reach {url}: ")
    start = "start a server with python -m seqmnist_tf.serve"
    if url.startswith("grpc"):  # which the local server does not speak
        start = "start TF Serving; python -m seqmnist_tf.serve has REST only, at http://HOST:8501"
    assert result.err.endswith(f"({start}, or give another address with --server)\n")


def test_bad_input_is_one_line(command: Command, digits: list[Path], in_tmp: Path) -> None:
    (in_tmp / "no.png").write_text("no picture")
    (in_tmp / "empty").mkdir()
    (in_tmp / "empty" / "notes.txt").write_text("")
    Image.new("L", (60, 60), 255).save(in_tmp / "blank.png")
    for words, message in (
        (["no.png", "missing.png"], "no.png is not a readable picture"),
        ([str(in_tmp / "empty")], f"no picture in {in_tmp / 'empty'} (files that end in .bmp, .gif, "),
        (["missing.png"], "cannot read missing.png: No such file"),
        ([""], "cannot read '': No such file"),
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
    command: Command, digits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unanswered(*_: object) -> None:
        time.sleep(0.6)
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr(socket, "create_connection", unanswered)
    monkeypatch.setattr(ask, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(ask, "CONNECTION_TRIES", 1)
    for url in ("http://192.0.2.1:8501", "grpc://192.0.2.1:8500"):
        result = command(client.main, str(digits[0]), "--server", url)
        assert result.status == 1
        assert result.err.splitlines()[0] == f"waiting for {url}"
        assert result.err.splitlines()[1].startswith(f"error: cannot reach {url}: Connection timed out (start ")
    monkeypatch.undo()
    assert ask.SILENT_SECONDS <= 3


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
