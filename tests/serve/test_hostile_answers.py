"""Servers that answer the client with nonsense, too slowly, too much, or with a way to another server."""

from __future__ import annotations

import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from seqmnist_tf import client
from seqmnist_tf.serve import ask, classify
from seqmnist_tf.system import RunError
from tests.conftest import Command
from tests.serve.conftest import Start, grpc_serving
from tests.serve.test_picture import DIGIT

IMAGE = np.zeros((1, 28, 28), np.uint8)
GOOD: dict[str, Any] = {"class_id": [3], "probabilities": [[0.0, 0, 0, 1.0, 0, 0, 0, 0, 0, 0]]}


def http_answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def outputs(**changes: Any) -> bytes:
    return http_answer(json.dumps({"outputs": {**GOOD, **changes}}).encode())


NO_CLASSIFIER = "is not the one of a digit classifier: "
NUMBERS = "probabilities must be numbers of 0 to 1"
TEN = [0.1] * 10
MALFORMED_ANSWERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cannot reach"),
    "no HTTP": (b"\x00\x01nonsense\r\n\r\n", "cannot reach"),
    "a body cut off": (outputs()[:-5], "cannot reach"),
    "a chunk of no size": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "cannot reach"),
    "an empty body": (http_answer(b""), "answered 200: an empty answer"),
    "no JSON": (http_answer(b"hello"), "answered 200: hello"),
    "a page": (http_answer(b"<html>\n<b>no</b>", "502 Bad Gateway"), "answered 502: <html> <b>no</b>"),
    "no UTF-8": (http_answer(b"\xff\xfe"), "answered 200: "),
    "nested deeply": (http_answer(b"[" * 100_000), "answered 200: [["),
    "a list": (http_answer(b"[1]"), "answered 200: [1]"),
    "no outputs": (http_answer(b'{"predictions": []}'), 'answered 200: {"predictions": []}'),
    "an error that is no text": (http_answer(b'{"error": {"a": 1}}', "500 x"), 'answered 500: {"error": {"a": 1}}'),
    "an error in colour": (
        http_answer(b'{"error": "\\u001b[31mred\\u001b]0;title\\u0007\\u202e\\u009b"}', "400 x"),
        r"answered 400: \x1b[31mred\x1b]0;title\x07\u202e\x9b",
    ),
    "an error of 100,000 letters": (http_answer(json.dumps({"error": "x" * 100_000}).encode(), "400 x"), "xxx..."),
    "outputs null": (http_answer(b'{"outputs": null}'), f"{NO_CLASSIFIER}class_id and probabilities missing"),
    "no probabilities": (http_answer(b'{"outputs": {"class_id": [3]}}'), f"{NO_CLASSIFIER}probabilities missing"),
    "too few rows": (outputs(class_id=[]), f"{NO_CLASSIFIER}class_id must be integers of shape (1,)"),
    "class_id a text": (outputs(class_id=["3"]), f"{NO_CLASSIFIER}class_id must be integers"),
    "long texts": (  # as an array, they would take a terabyte
        outputs(class_id=["x" * 10**6] + ["a"] * 500_000),
        f"{NO_CLASSIFIER}class_id must be integers of shape (1,)",
    ),
    "class_id true": (outputs(class_id=[True]), f"{NO_CLASSIFIER}class_id must be integers"),
    "class_id 10": (outputs(class_id=[10]), f"{NO_CLASSIFIER}class_id must be 0 to 9"),
    "class_id -1": (outputs(class_id=[-1]), f"{NO_CLASSIFIER}class_id must be 0 to 9"),
    "class_id 10**400": (outputs(class_id=[10**400]), f"{NO_CLASSIFIER}class_id must be"),
    "eleven classes": (outputs(probabilities=[[0.0] * 10 + [1.0]]), f"{NO_CLASSIFIER}probabilities must be numbers of"),
    "ragged": (outputs(probabilities=[[1, [2]]]), f"{NO_CLASSIFIER}probabilities must be numbers of shape (1, 10)"),
    "null among them": (outputs(probabilities=[[None] * 10]), f"{NO_CLASSIFIER}probabilities must be numbers of"),
    "texts among them": (outputs(probabilities=[["0.1"] * 10]), f"{NO_CLASSIFIER}probabilities must be numbers of"),
    "NaN": (outputs(probabilities=[[float("nan"), *TEN[1:]]]), f"{NO_CLASSIFIER}{NUMBERS}"),
    "negative": (outputs(probabilities=[[2.0, -1.0] + [0.0] * 8]), f"{NO_CLASSIFIER}{NUMBERS}"),
    "a sum of 10": (outputs(probabilities=[[1.0] * 10]), f"{NO_CLASSIFIER}{NUMBERS} whose"),
    "a redirect": (
        http_answer(b"", "302 Found", "location: http://evil.example/v1"),
        "answered 302: a redirect, which is not followed (give the final address)",
    ),
    "a body of 5 MiB": (http_answer(b" " * 5 * 2**20), "is larger than 4,194,304 bytes"),
    "a length of 10**15": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 1%s\r\n\r\n" % (b"0" * 15) + b" " * 5 * 2**20,
        "is larger than 4,194,304 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED_ANSWERS)
def test_a_malformed_answer_is_one_line(answering: Start, kind: str, command: Command, in_tmp: Path) -> None:
    content, message = MALFORMED_ANSWERS[kind]
    DIGIT.save("digit.png")
    for words in ([], ["--json"]):
        url = answering(content)
        result = command(client.main, "digit.png", "--server", url, "--timeout", "20", *words)
        assert (result.status, result.out) == (1, ""), result
        assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
        assert message in result.err and url in result.err
        assert result.err[:-1].isprintable() and len(result.err) < 500


def test_a_good_answer_passes(answering: Start) -> None:
    (answer,) = classify(IMAGE, answering(outputs()))
    assert (answer.class_id, answer.probabilities) == (3, GOOD["probabilities"][0])
    chunked = json.dumps({"outputs": GOOD}).encode()
    body = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(chunked), chunked)
    assert classify(IMAGE, answering(body)) == [answer]


def test_a_redirect_is_never_followed(answering: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        location = f"location: http://127.0.0.1:{other.getsockname()[1]}/v1/models/seqmnist:predict"
        for status in ("301 x", "302 x", "303 x", "307 x", "308 x"):
            with pytest.raises(RunError, match="a redirect, which is not followed"):
                classify(IMAGE, answering(http_answer(b"", status, location)), timeout=5)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()  # nobody has come


def test_no_proxy_sees_the_pictures(answering: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert classify(IMAGE, answering(outputs()))[0].class_id == 3


@pytest.mark.parametrize("where", ["status", "head", "body", "continue", "nothing"])
def test_the_time_limit_is_for_the_whole_answer(answering: Start, where: str) -> None:
    answer = outputs()
    end = answer.index(b"\r\n\r\n") + 4
    parts = {
        "status": [answer[n : n + 1] for n in range(100)],
        "head": [answer[:20], *(answer[n : n + 1] for n in range(20, 100))],
        "body": [answer[:end], *(answer[n : n + 1] for n in range(end, len(answer)))],
        "continue": [b"HTTP/1.1 100 Continue\r\n\r\n"] * 100,
        "nothing": [b""] * 100,
    }[where]
    start = time.monotonic()
    with pytest.raises(RunError, match=r"did not answer within 0\.6 s \(a longer --timeout may help\)"):
        classify(IMAGE, answering(*parts, pause=0.1), timeout=0.6)
    assert time.monotonic() - start < 3


def test_https_is_verified_and_has_the_time_limit_too(answering: Start) -> None:
    with pytest.raises(RunError, match="cannot reach https"):
        classify(IMAGE, answering(outputs()).replace("http:", "https:"))
    with pytest.raises(RunError, match="did not answer within"):
        classify(IMAGE, answering(*[b""] * 50, pause=0.1).replace("http:", "https:"), timeout=0.5)


def test_https_demands_a_certificate_of_the_servers_name(answering: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    demands: list[tuple[Any, ...]] = []
    wrap_socket = ssl.SSLContext.wrap_socket

    def record(self: ssl.SSLContext, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        demands.append((self.verify_mode, self.check_hostname, kwargs["server_hostname"]))
        return wrap_socket(self, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", record)
    with pytest.raises(RunError, match="cannot reach https"):
        classify(IMAGE, answering(outputs()).replace("http:", "https:"))
    assert set(demands) == {(ssl.CERT_REQUIRED, True, "127.0.0.1")}


def test_names_of_files_cannot_move_the_terminals_cursor(answering: Start, command: Command, in_tmp: Path) -> None:
    name = "a\x1b[2Jb\nc.png"
    with open(name, "wb") as file:
        Image.Image.save(DIGIT, file, "PNG")
    result = command(client.main, name, "--server", answering(outputs()), "--show")
    assert result.out.splitlines()[-1] == r"a\x1b[2Jb\nc.png  3  (100.0%)"
    assert "\x1b" not in result.out + result.err
    (row,) = json.loads(command(client.main, name, "--server", answering(outputs()), "--json").out)
    assert row["file"] == name


def tensors(**changes: Any) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse()
    values = {"class_id": np.array([3]), "probabilities": np.array(GOOD["probabilities"], np.float32), **changes}
    for name, value in values.items():
        if value is not None:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def damaged() -> predict_pb2.PredictResponse:
    response = tensors()
    response.outputs["class_id"].tensor_content = b"abc"
    return response


def huge() -> predict_pb2.PredictResponse:
    """Return an answer of some bytes with tensors that claim to hold billions of numbers."""
    response = tensors()
    for name in ("class_id", "another"):
        tensor = tf.make_tensor_proto(np.array([1], np.int64))
        tensor.tensor_shape.dim[0].size = 2**31
        tensor.ClearField("tensor_content")
        tensor.int64_val.append(1)
        response.outputs[name].CopyFrom(tensor)
    return response


GRPC_ANSWERS: dict[str, tuple[predict_pb2.PredictResponse, str]] = {
    "nothing": (predict_pb2.PredictResponse(), f"{NO_CLASSIFIER}class_id and probabilities missing"),
    "no class_id": (tensors(class_id=None), f"{NO_CLASSIFIER}class_id missing"),
    "texts": (tensors(class_id=np.array(["3"])), f"{NO_CLASSIFIER}class_id must be integers of shape (1,)"),
    "two rows": (tensors(class_id=np.array([3, 3])), f"{NO_CLASSIFIER}class_id must be integers of shape (1,)"),
    "NaN": (tensors(probabilities=np.full((1, 10), np.nan, np.float32)), f"{NO_CLASSIFIER}probabilities must be"),
    "damaged": (damaged(), "has damaged tensors"),
    "a shape of 8 GiB": (huge(), f"{NO_CLASSIFIER}class_id must be integers of shape (1,)"),
    "5 MiB": (tensors(x=np.zeros(5 * 2**20, np.uint8)), "answered RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize("kind", GRPC_ANSWERS)
def test_a_malformed_grpc_answer_is_one_line(kind: str) -> None:
    response, message = GRPC_ANSWERS[kind]

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> Any:
            return response

    with grpc_serving(Service()) as url, pytest.raises(RunError) as raised:
        classify(IMAGE, url)
    assert message in str(raised.value) and url in str(raised.value)
    assert str(raised.value).isprintable()
    assert ask.MAX_ANSWER_BYTES == 4 * 2**20
