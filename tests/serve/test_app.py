"""The local server: TF Serving's API, bad requests by the thousand, slow clients, its end."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from seqmnist_tf import data
from seqmnist_tf.serve import SavedModel, app, exported_versions, http_limits, predict_json, read_picture
from seqmnist_tf.serve import server as local_server
from seqmnist_tf.serve.__main__ import main
from seqmnist_tf.serve.models import ServedModels
from seqmnist_tf.serve.predict_json import parse_predict, predict_answer
from seqmnist_tf.serve.versions import EXTRA_ASSETS, WARM_UP_FILE
from tests.conftest import Result, serving
from tests.toy import ROOT, toy_mnist

IMAGES = toy_mnist()["test"].images
PREDICT = "/v1/models/seqmnist:predict"


def png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def post(server: str, document: Any, path: str = PREDICT) -> requests.Response:
    body = document if isinstance(document, bytes) else json.dumps(document)
    return requests.post(server + path, data=body, timeout=20)


def test_status_and_metadata_are_tf_servings(server: str, toy_versions: Path) -> None:
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    both = [{"version": "2", **available}, {"version": "1", **available}]
    assert requests.get(f"{server}/v1/models/seqmnist", timeout=9).json() == {"model_version_status": both}
    one = requests.get(f"{server}/v1/models/seqmnist/versions/1", timeout=9).json()
    assert one == {"model_version_status": both[1:]}
    metadata = requests.get(f"{server}/v1/models/seqmnist/versions/1/metadata", timeout=9).json()
    assert metadata["model_spec"] == {"name": "seqmnist", "signature_name": "", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) >= {"serving_default", "encoded_images", "logits", "trace", "step"}
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
    images = signatures["serving_default"]["inputs"]["images"]
    assert images["dtype"] == "DT_UINT8"
    assert [axis["size"] for axis in images["tensor_shape"]["dim"]] == ["-1", "28", "28"]
    described = requests.get(f"{server}/model.json", timeout=9).json()
    assert described == SavedModel.load(toy_versions / "2").description


@pytest.mark.parametrize("name", [0, None, False, [], {}])
def test_a_signatures_name_is_a_text(server: str, name: object) -> None:
    answer = post(server, {"signature_name": name, "instances": [IMAGES[0].tolist()]})
    assert answer.status_code == 400 and "Serving signature name: " in answer.json()["error"]
    assert post(server, {"signature_name": "", "instances": [IMAGES[0].tolist()]}).status_code == 200


def test_outputs_that_json_cannot_say_are_refused(server: str, toy_versions: Path) -> None:
    specs = SavedModel.load(toy_versions / "2").inputs("step")
    inputs: dict[str, Any] = {n: [[3e38] * int(spec.shape[1] or 1)] for n, spec in specs.items() if n in "hc"}
    inputs |= {name: [[[0.0]]] for name in specs if name not in inputs}
    answer = post(server, {"signature_name": "step", "inputs": inputs})
    assert answer.status_code == 400, answer.text
    assert answer.json() == {"error": "the outputs for these inputs are not finite numbers"}


@pytest.mark.parametrize("version", [None, 1, 2])
def test_every_signature_by_rows_and_by_columns(server: str, toy_versions: Path, version: int | None) -> None:
    saved = SavedModel.load(toy_versions / str(version or 2))
    pixels = data.encode(IMAGES[:3], "standard", np.arange(784))
    state = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)
    asked: dict[str, dict[str, Any]] = {
        "serving_default": {"images": IMAGES[:3]},
        "logits": {"sequence": pixels},
        "trace": {"images": IMAGES[:3]},
        "step": {"pixels": pixels[:, 300:310], "h": state, "c": -state},
    }
    path = PREDICT if version is None else f"/v1/models/seqmnist/versions/{version}:predict"
    for signature, inputs in asked.items():
        expected = saved(signature, **inputs)
        named = {name: value.tolist() for name, value in inputs.items()}
        by_column = post(server, {"signature_name": signature, "inputs": named}, path).json()["outputs"]
        rows = [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]
        by_row = post(server, {"signature_name": signature, "instances": rows}, path).json()["predictions"]
        if len(expected) == 1:
            (name,) = expected
            by_column, by_row = {name: by_column}, [{name: row} for row in by_row]
        for name, wanted in expected.items():
            np.testing.assert_allclose(by_column[name], wanted, atol=1e-6, err_msg=f"{signature} {name}")
            np.testing.assert_allclose([row[name] for row in by_row], wanted, atol=1e-6)


def test_inputs_without_their_name_and_images_in_base64(server: str) -> None:
    named = post(server, {"instances": [{"images": IMAGES[0].tolist()}]}).json()
    class_id = named["predictions"][0]["class_id"]
    assert post(server, {"instances": [IMAGES[0].tolist()]}).json() == named
    assert post(server, {"inputs": IMAGES[:1].tolist()}).json()["outputs"]["class_id"] == [class_id]
    encoded = {"b64": png(IMAGES[0])}
    for body in ({"instances": [encoded]}, {"instances": [{"image_bytes": encoded}]}):
        assert post(server, {"signature_name": "encoded_images", **body}).json() == named
    columns = post(server, {"signature_name": "encoded_images", "inputs": {"image_bytes": [encoded] * 2}}).json()
    assert columns["outputs"]["class_id"] == [class_id] * 2


def test_any_picture_is_prepared(server: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(255 - IMAGES[0]).resize((300, 300)).save(buffer, "PNG")
    prepared = requests.post(f"{server}/prepare", data=buffer.getvalue(), timeout=9).json()
    assert prepared == {"image": read_picture(buffer).tolist(), "digits": 1}
    none = requests.post(f"{server}/prepare", data=b"none", timeout=9)
    assert none.status_code == 400 and "is not a readable picture" in none.json()["error"]
    buffer = io.BytesIO()
    Image.new("L", (50, 50), 99).save(buffer, "PNG")
    assert requests.post(f"{server}/prepare", data=buffer.getvalue(), timeout=9).json() == {"image": None, "digits": 0}


def test_the_page_is_served_and_loads_nothing_from_other_servers(server: str) -> None:
    page = requests.get(server, timeout=9)
    assert page.status_code == 200 and "<canvas" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for name in ("app.js", "style.css", "samples.json"):
        assert requests.get(f"{server}/{name}", timeout=9).text == (app.WEB / name).read_text()
    for path in ("/../app.py", "/%2e%2e/app.py", "/nothing", "/__init__.py"):
        connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=9)
        connection.request("GET", path)
        assert connection.getresponse().status == 404, path
        connection.close()


GOOD_IMAGE = IMAGES[0].tolist()
ERRORS: list[tuple[Any, str]] = [
    (b"{", "JSON Parse error: "),
    (b"[" * 100_000, "JSON Parse error: nested too deeply"),
    (b'{"instances": [NaN]}', "JSON Parse error: NaN is not valid JSON"),
    (b"\xff\xfe\x00", "JSON Parse error: "),
    ([], "the body must be a JSON object (got [])"),
    ({}, "the body must have either 'instances' or 'inputs' (got neither)"),
    ({"instances": [GOOD_IMAGE], "inputs": [GOOD_IMAGE]}, "either 'instances' or 'inputs' (got both)"),
    ({"instances": []}, "instances must be a list of at least one element (got [])"),
    ({"instances": GOOD_IMAGE}, "images must be uint8 of shape (any, 28, 28) (got 0)"),
    ({"instances": [GOOD_IMAGE[:27]]}, "images must be uint8 of shape (any, 28, 28) (got lists of [27] on axis 1)"),
    ({"instances": [[[0] * 28] * 27 + [[0] * 29]]}, "(got lists of [28, 29] on axis 2)"),
    ({"instances": [[[256] * 28] * 28]}, "images must be uint8 of shape (any, 28, 28), 0 to 255 (got 256)"),
    ({"instances": [[[True] * 28] * 28]}, "0 to 255 (got true)"),
    ({"instances": [[[0.5] * 28] * 28]}, "0 to 255 (got 0.5)"),
    ({"instances": [[[0] * 28] * 28] * 257}, "a request may have at most 256 rows (got 257)"),
    ({"instances": [GOOD_IMAGE] * 33, "signature_name": "trace"}, "at most 25,088 pixels in all rows (got 25,872)"),
    ({"instances": [GOOD_IMAGE], "signature_name": "other"}, 'Serving signature name: "other" not found (known: '),
    ({"instances": [GOOD_IMAGE], "signature_name": 7}, "Serving signature name: 7 not found"),
    ({"inputs": {"sequence": [[[1e39]] * 784]}, "signature_name": "logits"}, "a number outside float32's range)"),
    ({"inputs": {"sequence": [[[10**400]] * 784]}, "signature_name": "logits"}, "a number outside float32's range)"),
    ({"inputs": {"h": [[0]]}, "signature_name": "step"}, "inputs must be an object of "),
    (
        {"inputs": {"pixels": [[[0]]] * 2, "h": [[0] * 8], "c": [[0] * 8] * 2}, "signature_name": "step"},
        "all inputs must have the same number of rows",
    ),
    ({"inputs": ["text"], "signature_name": "encoded_images"}, 'each {"b64": "..."} (got "text")'),
    ({"inputs": [{"b64": "a"}], "signature_name": "encoded_images"}, '"b64" must be base64 text (got "a")'),
    *(
        ({"inputs": [{"b64": content}], "signature_name": "encoded_images"}, "must be PNG or JPEG images of 28x28")
        for content in ("", "YWJj", png(IMAGES[0][:27]))
    ),
]  # fmt: skip


@pytest.mark.parametrize(("document", "text"), ERRORS, ids=range(len(ERRORS)))
def test_a_bad_request_is_answered_with_the_reason(server: str, document: Any, text: str) -> None:
    answer = post(server, document)
    assert answer.status_code == 400
    assert text in answer.json()["error"]
    assert len(answer.json()["error"]) < 300


def test_states_are_no_pixels() -> None:
    states = {name: np.zeros((256, 512), np.float32) for name in "hc"}
    predict_json._check_sizes({"pixels": np.zeros((256, 1, 1), np.float32), **states}, unrolled=True)
    with pytest.raises(http_limits.RequestError, match=r"at most 25,088 pixels in all rows \(got 25,344\)"):
        predict_json._check_sizes({"pixels": np.zeros((256, 99, 1), np.float32), **states}, unrolled=True)


def test_a_body_of_any_depth_is_answered(server: str) -> None:
    with requests.Session() as session:
        for depth in range(900, 1001):  # where Python's limit is met while the answer quotes the body
            body = b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"
            for content in (body, body[14:-1]):
                assert session.post(server + PREDICT, content, timeout=9).status_code == 400, depth


WORDS = st.text(max_size=20)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS)
JSON_VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4)
)
NO_PIXELS = st.one_of(
    st.none(), st.booleans(), st.integers(max_value=-1), st.integers(min_value=256), st.floats(), WORDS,
    st.lists(st.integers(0, 255), max_size=3),
)  # fmt: skip
PLACES = st.integers(0, 27)


@st.composite
def spoilt_images(draw: st.DrawFn) -> bytes:
    """One thing is wrong with one of some images."""
    images = [[row[:] for row in GOOD_IMAGE] for _ in range(draw(st.integers(1, 3)))]
    row = draw(st.sampled_from(images))[draw(PLACES)]
    match draw(st.integers(0, 3)):
        case 0:
            row[draw(PLACES)] = draw(NO_PIXELS)
        case 1:
            del row[draw(PLACES) :]
        case 2:
            row.append(0)
        case 3:
            images[0].append(row)
    key = draw(st.sampled_from(["instances", "inputs"]))
    signature = draw(st.sampled_from(["serving_default", "trace", ""]))
    return json.dumps({key: images, "signature_name": signature}).encode()


@st.composite
def spoilt_pngs(draw: st.DrawFn) -> bytes:
    """A PNG that is cut off, or of a wrong size."""
    content = base64.b64decode(png(IMAGES[0][: draw(st.integers(1, 27))]))
    if draw(st.booleans()):
        whole = base64.b64decode(png(IMAGES[0]))
        content = whole[: draw(st.integers(0, len(whole) - 20))]
    document = {"signature_name": "encoded_images", "instances": [{"b64": base64.b64encode(content).decode()}]}
    return json.dumps(document).encode()


@st.composite
def spoilt_steps(draw: st.DrawFn) -> bytes:
    """States of sizes that do not go together."""
    sizes = draw(st.lists(st.integers(0, 9).filter(lambda n: n != 8), min_size=2, max_size=2))
    inputs = {"pixels": [[[0.5]]], "h": [[0.0] * sizes[0]], "c": [[0.0] * sizes[1]]}
    return json.dumps({"signature_name": "step", "inputs": inputs}).encode()


BODIES = st.one_of(
    st.binary(max_size=300),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"signature_name": JSON_VALUES, "instances": JSON_VALUES}).map(
        lambda d: json.dumps(d).encode()
    ),
    JSON_VALUES.map(lambda value: json.dumps({"inputs": value}).encode()),
    spoilt_images(),
    spoilt_pngs(),
    spoilt_steps(),
)
TARGETS = st.one_of(
    st.just(PREDICT),
    st.just("/prepare"),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).map(lambda t: f"/v1/{t}"),
)


def test_2000_bad_requests_are_refused_and_the_good_ones_between_them_answered(server: str, toy_versions: Path) -> None:
    host = server.removeprefix("http://")
    good = json.dumps({"instances": IMAGES[:2].tolist()})
    wanted = SavedModel.load(toy_versions / "2")(images=IMAGES[:2])
    statuses: list[int] = []

    def ask(method: str, target: str, body: bytes | str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @settings(
        max_examples=2000, database=None, derandomize=True, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(method=st.sampled_from(["POST"] * 9 + ["PUT", "DELETE", "PATCH", "NONSENSE"]), target=TARGETS, body=BODIES)
    def refuse(method: str, target: str, body: bytes) -> None:
        status, answer = ask(method, target, body)
        statuses.append(status)
        assert 400 <= status < 500, (method, target, body, answer)
        assert json.loads(answer)["error"]
        if len(statuses) % 100 == 0:
            status, answer = ask("POST", PREDICT, good)
            assert status == 200
            np.testing.assert_allclose([row["probabilities"] for row in json.loads(answer)["predictions"]],
                                       wanted["probabilities"], atol=1e-6)  # fmt: skip

    refuse()
    assert len(statuses) >= 2000
    assert statuses.count(400) > 500 and set(statuses) >= {400, 405}


def answer_to(server: str, *parts: bytes, pause: float = 0) -> bytes:
    """Send raw bytes, part by part, and return the answer, up to the end of the connection."""
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionError:
            pass
        return received


def test_requests_that_are_not_http_are_refused(server: str) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET  /\r\n\r\n"):
        assert answer_to(server, nonsense).startswith(b"HTTP/1.1 400 "), nonsense
    head = b"POST /v1/models/seqmnist:predict HTTP/1.1\r\nhost: localhost\r\n"
    assert b" 400 " in answer_to(server, head + b"content-length: ten\r\n\r\n")
    assert b" 400 " in answer_to(server, head + b"x: " + b"y" * 200_000)
    assert b" 400 " in answer_to(server, head + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")


def test_large_bodies_are_refused(server: str) -> None:
    for size in (10_000_000, http_limits.MAX_BODY_BYTES + 1):
        answer = post(server, b" " * size)
        assert answer.status_code == 413
        assert answer.json() == {"error": "a request body may have at most 8,388,608 bytes"}
    assert post(server, b" " * http_limits.MAX_BODY_BYTES).status_code == 400
    chunks = iter([b" " * 2**20] * 100)
    with pytest.raises(requests.ConnectionError):
        answer = requests.post(server + PREDICT, data=chunks, timeout=20)
        assert answer.status_code == 413
        raise requests.ConnectionError
    assert post(server, {"instances": [GOOD_IMAGE]}).status_code == 200


def test_slow_clients_are_refused_and_do_not_delay_others(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEAD_SECONDS", 2.0)
    monkeypatch.setattr(http_limits, "BODY_SECONDS", 2.0)
    head = b"POST /v1/models/seqmnist:predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n"
    kept_alive = b"GET /v1/models/seqmnist HTTP/1.1\r\nhost: localhost\r\n\r\n"
    attempts: dict[str, tuple[bytes, ...]] = {
        "silence": (b"",),
        "head": tuple(head[n : n + 1] for n in range(30)),
        "body": (head, *(b" " for _ in range(30))),
        "body after its answer": (head.replace(b"/v1/models/seqmnist:predict", b"/v1/x"), *(b" " for _ in range(40))),
        "second head": (kept_alive, *(head[n : n + 1] for n in range(30))),
    }
    answers: dict[str, bytes] = {}

    def crawl(name: str) -> None:
        answers[name] = answer_to(server, *attempts[name], pause=0.15)

    def seconds_of_a_request() -> float:
        start = time.monotonic()
        assert post(server, {"instances": [GOOD_IMAGE]}).status_code == 200
        return time.monotonic() - start

    undelayed = max(seconds_of_a_request() for _ in range(5))
    threads = [threading.Thread(target=crawl, args=(name,)) for name in attempts for _ in range(5)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert seconds_of_a_request() < max(2, 10 * undelayed)
        time.sleep(0.05)
    assert (
        answers["silence"].startswith(b"HTTP/1.1 400 ")
        and b"the request head was not complete within 2 s" in answers["head"]
    )
    assert (
        answers["body"].startswith(b"HTTP/1.1 408 ")
        and b"the request body was not complete within 2 s" in answers["body"]
    )
    assert answers["body after its answer"].startswith(b"HTTP/1.1 400 ")
    assert (
        answers["second head"].startswith(b"HTTP/1.1 200 ")
        and b"the request head was not complete" in answers["second head"]
    )


def test_the_rest_of_a_body_has_a_limit(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "BODY_SECONDS", 0.5)
    head = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500\r\n\r\n"
    host, _, port = server.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as client:
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
        client.sendall(b" ")
        while client.recv(1000):  # a timeout is an error
            pass


def test_a_version_without_warm_up_requests_is_served_and_a_damaged_one_is_an_error(
    toy_versions: Path, tmp_path: Path
) -> None:
    for version in "123":
        shutil.copytree(toy_versions / "2", tmp_path / version)
    (tmp_path / "3" / EXTRA_ASSETS / WARM_UP_FILE).unlink()
    models = ServedModels(exported_versions(tmp_path))
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    with serving(models) as url:
        predict = {"instances": [GOOD_IMAGE]}
        answers = {n: requests.post(f"{url}/v1/models/seqmnist/versions/{n}:predict", json=predict) for n in "321"}
        assert (answers["3"].status_code, answers["2"].status_code) == (200, 200)
        answer = answers["1"]
        assert answer.status_code == 500 and answer.json()["error"].startswith(f"cannot read {tmp_path / '1'}: ")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_error_of_the_server_itself_has_the_headers_too(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ZeroDivisionError("a bug\nof the server")

    monkeypatch.setattr(app, "_predict", fail)
    answer = requests.post(f"{server}/v1/models/seqmnist:predict", json={"instances": [GOOD_IMAGE]})
    assert (answer.status_code, answer.json()) == (500, {"error": "a bug"})
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_answer_that_takes_too_long_is_an_error(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(app, "parse_predict", lambda *_: time.sleep(1))
    answer = post(server, {"instances": [GOOD_IMAGE]})
    assert (answer.status_code, answer.json()) == (504, {"error": "no answer within 0.1 s"})


def test_connections_have_a_limit(toy_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "MAX_CONNECTIONS", 3)
    with serving(ServedModels(exported_versions(toy_versions))) as url, contextlib.ExitStack() as idle:
        assert requests.get(f"{url}/v1/models/seqmnist", timeout=9).status_code == 200
        for _ in range(2):
            idle.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))))
        assert requests.get(f"{url}/v1/models/seqmnist", timeout=9).status_code == 200  # the third
        idle.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))))
        deadline = time.monotonic() + 30  # the server accepts them when it finds time
        while requests.get(f"{url}/v1/models/seqmnist", timeout=9).status_code != 503:
            assert time.monotonic() < deadline


def test_many_clients_at_once_get_their_own_answers(server: str, toy_versions: Path) -> None:
    wanted = SavedModel.load(toy_versions / "2")(images=IMAGES)["probabilities"]
    wrong: list[int] = []

    def ask(first: int) -> None:
        with requests.Session() as session:
            for n in range(first, len(IMAGES), 8):
                answer = session.post(server + PREDICT, json={"instances": [IMAGES[n].tolist()]}, timeout=30).json()
                if not np.allclose(answer["predictions"][0]["probabilities"], wanted[n], atol=1e-6):
                    wrong.append(n)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_request_is_answered_before_the_server_ends(toy_versions: Path, signal_number: int, status: int) -> None:
    command = [sys.executable, "-m", "seqmnist_tf.serve", "--model-dir", str(toy_versions), "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, **pipes) as process:
        line = process.stdout.readline()  # type: ignore[union-attr]
        url = line.split(" at ")[1].strip()
        body = json.dumps({"signature_name": "trace", "instances": IMAGES[:32].tolist()}).encode()
        head = f"POST {PREDICT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nexpect: 100-continue\r\n"
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address, 60)) for _ in range(6)]
            for client in clients:
                client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode())
                assert client.recv(65536).startswith(b"HTTP/1.1 100 ")  # its request is being answered
            process.send_signal(signal_number)
            for client in clients:
                client.sendall(body)
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
                while client.recv(65536):
                    pass
        assert process.wait(timeout=20) == status
        assert process.stderr.read() == ("interrupted\n" if status else "")  # type: ignore[union-attr]
    assert line.startswith("version 2 at http://127.0.0.1:")


def test_bad_input_is_one_line(command: Callable[..., Result], in_tmp: Path, toy_versions: Path) -> None:
    (in_tmp / "empty").mkdir()
    (in_tmp / "broken" / "3").mkdir(parents=True)
    shutil.copytree(toy_versions / "1", in_tmp / "warm" / "1")
    (in_tmp / "warm" / "1" / EXTRA_ASSETS / WARM_UP_FILE).write_bytes(b"damaged " * 9)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, message in (
            ([], "cannot read export/seqmnist: No such file or directory (give --model-dir a folder"),
            (["--model-dir", "empty"], "no version in empty (give --model-dir"),
            (["--model-dir", "broken"], "cannot read broken/3: "),
            (["--model-dir", "warm"], "cannot replay the warm-up requests of warm/1: "),
            (["--model-dir", str(toy_versions), "--port", str(port)], f"cannot listen on 127.0.0.1:{port}: "),
            (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid:8501: "),
            (["--host", "a..b"], "cannot listen on a..b:8501: "),
            (["--port", "70000"], "--port must be 0 to 65535 (got 70000)"),
            (["--port", "x"], "argument --port: invalid int value: 'x'"),
        ):
            extra = [] if "--port" in words else ["--port", "0"] if "--host" not in words else []
            result = command(main, *words, *extra)
            assert (result.status, result.out) == (2, ""), words
            assert result.err.startswith(f"error: {message}") and result.err.count("\n") == 1, result.err


def test_numbers_survive_the_answer(toy_versions: Path) -> None:
    model = SavedModel.load(toy_versions / "1")
    request = parse_predict(json.dumps({"instances": IMAGES[:2].tolist()}).encode(), model)
    outputs = model(request.signature, **request.inputs)
    answered = json.loads(predict_answer(request, outputs))["predictions"]
    np.testing.assert_array_equal(
        np.array([row["probabilities"] for row in answered], np.float32), outputs["probabilities"]
    )
