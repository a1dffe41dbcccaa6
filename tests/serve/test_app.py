"""The local server: TF Serving's API, bad requests by the thousand, slow clients, its end."""

from __future__ import annotations

import base64
import contextlib
import email.message
import http.client
import importlib.metadata
import io
import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from seqmnist_tf import data
from seqmnist_tf.serve import __main__ as serve_command
from seqmnist_tf.serve import app, exported_versions, guard, models, rest
from seqmnist_tf.serve.guard import Limits
from seqmnist_tf.serve.models import ServedModels
from seqmnist_tf.serve.versions import DESCRIPTION_FILE, EXTRA_ASSETS, WARM_UP_FILE
from tests.conftest import Command, serving
from tests.serve.test_picture import read_picture
from tests.toy import toy_mnist

IMAGES = toy_mnist()["test"].images
PREDICT = "/v1/models/seqmnist:predict"


def png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def post(server: str, document: Any, path: str = PREDICT) -> requests.Response:
    body = document if isinstance(document, bytes) else json.dumps(document)
    return requests.post(server + path, data=body, timeout=20)


def test_status_and_metadata_are_tf_servings(server: str, toy_models: ServedModels) -> None:
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    both = [{"version": "2", **available}, {"version": "1", **available}]
    assert requests.get(f"{server}/v1/models/seqmnist", timeout=60).json() == {"model_version_status": both}
    one = requests.get(f"{server}/v1/models/seqmnist/versions/1", timeout=60).json()
    assert one == {"model_version_status": both[1:]}
    metadata = requests.get(f"{server}/v1/models/seqmnist/versions/1/metadata", timeout=60).json()
    assert metadata["model_spec"] == {"name": "seqmnist", "signature_name": "", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) >= {"serving_default", "encoded_images", "logits", "trace", "step"}
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
    images = signatures["serving_default"]["inputs"]["images"]
    assert images["dtype"] == "DT_UINT8"
    assert [axis["size"] for axis in images["tensor_shape"]["dim"]] == ["-1", "28", "28"]
    described = requests.get(f"{server}/model.json", timeout=60).json()
    assert described == {**toy_models.get(2).description, "project": app.project_address()}


def test_the_page_knows_the_address_that_the_metadata_name(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = email.message.Message()
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: metadata)
    assert app.project_address() is None
    metadata["Project-URL"] = "The original in PyTorch, https://example.org/original"
    metadata["Project-URL"] = "Repository, https://example.org/ours"
    assert app.project_address() == "https://example.org/ours"


def test_outputs_that_json_cannot_say_are_refused(server: str, toy_models: ServedModels) -> None:
    specs = toy_models.get(2).inputs("step")
    inputs: dict[str, Any] = {n: [[3e38] * int(spec.shape[1] or 1)] for n, spec in specs.items() if n in "hc"}
    inputs |= {name: [[[0.0]]] for name in specs if name not in inputs}
    answer = post(server, {"signature_name": "step", "inputs": inputs})
    assert answer.status_code == 400, answer.text
    assert answer.json() == {"error": "the outputs for these inputs are not finite numbers"}


@pytest.mark.parametrize("version", [None, 1, 2])
def test_every_signature_by_rows_and_by_columns(server: str, toy_models: ServedModels, version: int | None) -> None:
    saved = toy_models.get(version)
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
            for answered in (by_column[name], [row[name] for row in by_row]):  # JSON keeps every bit
                np.testing.assert_array_equal(np.array(answered, wanted.dtype), wanted, err_msg=f"{signature} {name}")


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
    prepared = requests.post(f"{server}/prepare", data=buffer.getvalue(), timeout=60).json()
    assert prepared == {"image": read_picture(buffer).tolist(), "digits": 1}
    none = requests.post(f"{server}/prepare", data=b"none", timeout=60)
    assert none.status_code == 400 and "is not a readable picture" in none.json()["error"]
    buffer = io.BytesIO()
    Image.new("L", (50, 50), 99).save(buffer, "PNG")
    assert requests.post(f"{server}/prepare", data=buffer.getvalue(), timeout=60).json() == {"image": None, "digits": 0}


def test_the_page_is_served_and_loads_nothing_from_other_servers(server: str) -> None:
    page = requests.get(server, timeout=60)
    assert page.status_code == 200 and "<canvas" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for name in ("app.js", "style.css", "samples.json"):
        assert requests.get(f"{server}/{name}", timeout=60).text == (app.WEB / name).read_text()
    for path in ("/../app.py", "/%2e%2e/app.py", "/nothing", "/__init__.py"):
        connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=60)
        connection.request("GET", path)
        assert connection.getresponse().status == 404, path
        connection.close()


GOOD_IMAGE = IMAGES[0].tolist()


def test_states_are_no_pixels() -> None:
    states = {name: np.zeros((256, 512), np.float32) for name in "hc"}
    rest._check_sizes({"pixels": np.zeros((256, 1, 1), np.float32), **states}, unrolled=True)
    with pytest.raises(guard.RequestError, match=r"at most 25,088 pixels in all rows \(got 25,344\)"):
        rest._check_sizes({"pixels": np.zeros((256, 99, 1), np.float32), **states}, unrolled=True)


def test_a_body_of_any_depth_is_answered(server: str) -> None:
    with requests.Session() as session:
        for depth in range(900, 1001):  # where Python's limit is met while the answer quotes the body
            body = b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"
            for content in (body, body[14:-1]):
                assert session.post(server + PREDICT, content, timeout=60).status_code == 400, depth


STEP: dict[str, list[Any]] = {"pixels": [[[0.5]]], "h": [[0.0] * 8], "c": [[0.0] * 8]}
DOCUMENTS: list[Any] = [
    {"instances": [GOOD_IMAGE] * 2},
    {"signature_name": "trace", "inputs": {"images": [GOOD_IMAGE]}},
    {"signature_name": "encoded_images", "instances": [{"b64": png(IMAGES[0])}]},
    {"signature_name": "logits", "inputs": [[[0.5]] * 784]},
    {"signature_name": "step", "inputs": STEP},
    {"signature_name": "step", "instances": [{name: rows[0] for name, rows in STEP.items()}]},
]
ODD: list[Any] = [
    None, True, -1, 256, 0.5, 10**30, "", "text", "\u2028", [], {}, [[]], [GOOD_IMAGE], {"b64": png(IMAGES[0][:27])}
]  # fmt: skip


def spoilt(value: Any, random: np.random.RandomState) -> Any:
    """Return a JSON value with another value, or nothing, somewhere in it."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or random.rand() < 0.2:
        return ODD[random.randint(len(ODD))]
    key = keys[random.randint(len(keys))]
    changed = value.copy()
    if random.rand() < 0.1:
        del changed[key]
    else:
        changed[key] = spoilt(value[key], random)
    return changed


def spoilt_request(random: np.random.RandomState) -> tuple[str, str, bytes]:
    """Return a method, a path and a body of which at least one is wrong, as a rule."""
    body = json.dumps(spoilt(DOCUMENTS[random.randint(len(DOCUMENTS))], random)).encode()
    if random.rand() < 0.2:
        body = random.bytes(random.randint(300)) if random.rand() < 0.5 else body[: random.randint(len(body))]
    method = "POST" if random.rand() < 0.9 else ["PUT", "DELETE", "PATCH", "NONSENSE"][random.randint(4)]
    path = "".join(map(chr, random.randint(33, 127, random.randint(1, 20))))
    return method, [PREDICT, PREDICT, PREDICT, "/prepare", f"/v1/{path}"][random.randint(5)], body


def test_bad_requests_are_refused_and_good_ones_between_them_answered(server: str, toy_models: ServedModels) -> None:
    n = 400
    random = np.random.RandomState(n)
    wanted = toy_models.get(2)(images=IMAGES[:2])["probabilities"]
    statuses: list[int] = []
    with requests.Session() as session:
        for turn in range(n):
            method, path, body = spoilt_request(random)
            connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=10)
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            assert answer.status < 500, (method, path, body, text)
            assert answer.status == 200 or json.loads(text)["error"]
            statuses.append(answer.status)
            if turn % 100 == 0:
                good = session.post(server + PREDICT, json={"instances": IMAGES[:2].tolist()}, timeout=10).json()
                given = [row["probabilities"] for row in good["predictions"]]
                np.testing.assert_allclose(given, wanted, atol=1e-6)
    assert statuses.count(400) > 0.7 * n and set(statuses) >= {400, 405}


def connect(server: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.rpartition(":")[2])), timeout=30)


def answer_to(server: str, *parts: bytes, pause: float = 0) -> bytes:
    """Send raw bytes, part by part, and return the answer, up to the end of the connection."""
    with connect(server) as connection:
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
    text = {"error": "a request body may have at most 8,388,608 bytes"}
    for body in (
        b" " * 10_000_000,
        b" " * (guard.MAX_BODY_BYTES + 1),
        iter([b" " * 2**20] * 100),
    ):  # the last in chunks
        answer = requests.post(server + PREDICT, data=body, timeout=20)
        assert (answer.status_code, answer.json()) == (413, text)
    assert post(server, b" " * guard.MAX_BODY_BYTES).status_code == 400
    assert post(server, {"instances": [GOOD_IMAGE]}).status_code == 200


def test_slow_clients_are_refused_and_do_not_delay_others(toy_models: ServedModels) -> None:
    head = b"POST /v1/models/seqmnist:predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n"
    kept_alive = b"GET /v1/models/seqmnist HTTP/1.1\r\nhost: localhost\r\n\r\n"
    attempts: dict[str, tuple[bytes, ...]] = {
        "silence": (b"",),
        "head": tuple(head[n : n + 1] for n in range(20)),
        "body": (head, *(b" " for _ in range(20))),
        "body after its answer": (head.replace(b"/v1/models/seqmnist:predict", b"/v1/x"), *(b" " for _ in range(20))),
        "second head": (kept_alive, *(head[n : n + 1] for n in range(20))),
    }
    answers: dict[str, bytes] = {}

    def seconds_of_a_request() -> float:
        start = time.monotonic()
        assert post(url, {"instances": [GOOD_IMAGE]}).status_code == 200
        return time.monotonic() - start

    def crawl(name: str) -> None:
        answers[name] = answer_to(url, *attempts[name], pause=0.1)

    with serving(toy_models, Limits(head_seconds=1, body_seconds=1)) as url:
        undelayed = max(seconds_of_a_request() for _ in range(5))
        threads = [threading.Thread(target=crawl, args=(name,)) for name in attempts for _ in range(5)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert seconds_of_a_request() < max(2, 10 * undelayed)
            time.sleep(0.05)
    assert answers["silence"].startswith(b"HTTP/1.1 400 ")
    assert b"the request head was not complete within 1 s" in answers["head"]
    assert answers["body"].startswith(b"HTTP/1.1 408 ")
    assert b"the request body was not complete within 1 s" in answers["body"]
    assert answers["body after its answer"].startswith(b"HTTP/1.1 400 ")
    assert answers["second head"].startswith(b"HTTP/1.1 200 ")
    assert b"the request head was not complete" in answers["second head"]


def test_an_idle_connection_is_not_a_slow_head(toy_models: ServedModels) -> None:
    """A client may rest between two requests of one connection for longer than a head may take."""
    with serving(toy_models, Limits(head_seconds=0.3)) as url:
        client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        client.connect()
        client.auto_open = 0  # a closed connection is an error
        for _ in range(3):
            client.request("GET", "/v1/models/seqmnist")
            assert b"AVAILABLE" in client.getresponse().read()
            time.sleep(0.8)
        client.close()


def test_a_version_without_warm_up_requests_is_served_and_a_damaged_one_is_skipped(
    toy_versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in "1234":
        shutil.copytree(toy_versions / "2", tmp_path / version)
    for version in "14":
        (tmp_path / version / "saved_model.pb").write_bytes(b"damaged")
    (tmp_path / "3" / EXTRA_ASSETS / WARM_UP_FILE).unlink()
    (tmp_path / "2" / EXTRA_ASSETS / DESCRIPTION_FILE).write_text("{")
    served = ServedModels(exported_versions(tmp_path))
    assert served.newest == 3
    with serving(served) as url:
        api = f"{url}/v1/models/seqmnist"
        predict = {"instances": [GOOD_IMAGE]}
        answers = {n: requests.post(f"{api}/versions/{n}:predict", json=predict, timeout=60) for n in "4321"}
        assert [answer.status_code for answer in answers.values()] == [404, 200, 200, 404]
        assert answers["1"].json() == {"error": "Servable not found for request: Specific(seqmnist, 1)"}
        status = requests.get(api, timeout=60).json()["model_version_status"]
        assert [row["version"] for row in status] == ["3", "2"]
        described = requests.get(f"{url}/model.json", timeout=60).json()
        shutil.rmtree(tmp_path / "3")  # what the server says of the version that it has loaded stays true
        assert requests.get(f"{url}/model.json", timeout=60).json() == described
        assert requests.get(f"{api}/metadata", timeout=60).status_code == 200
        del served.paths[3]
        served.newest = 2
        answer = requests.get(f"{url}/model.json", timeout=60)
        assert (answer.status_code, answer.json()) == (404, {"error": "version 2 has no description"})
    warnings = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[2].partition(":")[0] for line in warnings] == [
        f" version {n} is not served" for n in (4, 1)
    ]
    assert all(f"cannot read {tmp_path}/" in line for line in warnings)


def test_an_error_of_the_server_itself_has_the_headers_too(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ZeroDivisionError("a bug\nof the server")

    monkeypatch.setattr(app, "_predict", fail)
    answer = requests.post(f"{server}/v1/models/seqmnist:predict", json={"instances": [GOOD_IMAGE]}, timeout=60)
    assert (answer.status_code, answer.json()) == (500, {"error": "a bug"})
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_answer_that_takes_too_long_is_an_error(toy_models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "parse_predict", lambda *_: time.sleep(1))
    with serving(toy_models, Limits(answer_seconds=0.1)) as url:
        answer = post(url, {"instances": [GOOD_IMAGE]})
    assert (answer.status_code, answer.json()) == (504, {"error": "no answer within 0.1 s"})


def test_connections_have_a_limit(toy_models: ServedModels) -> None:
    with serving(toy_models, Limits(connections=3)) as url, contextlib.ExitStack() as idle:
        assert requests.get(f"{url}/v1/models/seqmnist", timeout=60).status_code == 200
        for _ in range(2):
            idle.enter_context(connect(url))
        assert requests.get(f"{url}/v1/models/seqmnist", timeout=60).status_code == 200  # the third
        idle.enter_context(connect(url))
        deadline = time.monotonic() + 30  # the server accepts them when it finds time
        while requests.get(f"{url}/v1/models/seqmnist", timeout=60).status_code != 503:
            assert time.monotonic() < deadline


def test_many_clients_at_once_get_their_own_answers(server: str, toy_models: ServedModels) -> None:
    wanted = toy_models.get(2)(images=IMAGES)["probabilities"]
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
def test_a_request_is_answered_before_the_server_ends(
    signal_number: int, status: int, command: Command, toy_models: ServedModels, toy_versions: Path, monkeypatch: Any
) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nexpect: 100-continue\r\n"
    body = json.dumps({"signature_name": "trace", "instances": IMAGES[:8].tolist()}).encode()
    answers: list[bytes] = []

    def ask_and_end(url: str) -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(url)) for _ in range(4)]
            for client in clients:
                client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode())
                answers.append(client.recv(65536))  # its request is being answered
            os.kill(os.getpid(), signal_number)
            for client in clients:
                client.sendall(body)
                answers.append(client.recv(65536))

    def said(line: str) -> None:
        assert line.startswith("version 2 at http://127.0.0.1:")
        threading.Thread(target=ask_and_end, args=(line.split(" at ")[1],)).start()

    monkeypatch.setattr(serve_command, "say", said)
    given: list[Any] = []
    monkeypatch.setattr(models, "ServedModels", lambda *words: given.append(words) or toy_models)  # type: ignore[func-returns-value]
    monkeypatch.setattr(models, "read_labels", lambda folder: {"stable": 1})
    ended = command(serve_command.main, "--model-dir", str(toy_versions), "--port", "0")
    assert given == [(exported_versions(toy_versions), {"stable": 1})]
    assert (ended.status, ended.err) == (status, "interrupted\n" if status else "")
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 100 "] * 4 + [b"HTTP/1.1 200 "] * 4


def test_bad_input_is_one_line(command: Command, in_tmp: Path, toy_versions: Path) -> None:
    (in_tmp / "empty").mkdir()
    (in_tmp / "broken" / "3").mkdir(parents=True)
    (in_tmp / "broken" / "3" / "saved_model.pb").write_bytes(b"damaged")
    (in_tmp / "unfinished" / "3").mkdir(parents=True)
    shutil.copytree(toy_versions / "1", in_tmp / "warm" / "1")
    (in_tmp / "warm" / "1" / EXTRA_ASSETS / WARM_UP_FILE).write_bytes(b"damaged " * 9)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, message in (
            ([], "cannot read export/seqmnist: No such file or directory (give --model-dir a folder"),
            (["--model-dir", "empty"], "no version in empty (give --model-dir"),
            (["--model-dir", "broken"], "cannot read broken/3: "),
            (["--model-dir", "unfinished"], "no version in unfinished (give --model-dir"),
            (["--model-dir", "warm"], "cannot replay the warm-up requests of warm/1: "),
            (["--model-dir", str(toy_versions), "--port", str(port)], f"cannot listen on 127.0.0.1:{port}: "),
            (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid:8501: "),
            (["--host", "a..b"], "cannot listen on a..b:8501: "),
            (["--port", "70000"], "--port must be 0 to 65535 (got 70000)"),
            (["--port", "x"], "argument --port: invalid int value: 'x'"),
        ):
            extra = [] if "--port" in words else ["--port", "0"] if "--host" not in words else []
            result = command(serve_command.main, *words, *extra)
            assert (result.status, result.out) == (2, ""), words
            *warnings, error = result.err.splitlines()
            assert error.startswith(f"error: {message}"), result.err
            left_out = ["warning: version 3 is left out: unfinished/3 has no saved_model.pb, or cannot be read"]
            assert warnings == (left_out if "unfinished" in words else [])
