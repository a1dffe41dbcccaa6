"""The local server: TF Serving's API, bad requests, which version it serves, its start and its end."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import requests
import tensorflow as tf

from seqmnist_tf import data
from seqmnist_tf.serve import SavedModel, app, choose_version, read_description
from seqmnist_tf.serve import __main__ as serve_command
from tests.conftest import Command, serving
from tests.toy import LONG_SECONDS, ROOT, toy_mnist

IMAGES = toy_mnist()["test"].images
MODEL = "/v1/models/seqmnist"
PREDICT = f"{MODEL}:predict"
GOOD_IMAGE = IMAGES[0].tolist()
GOOD = {"instances": [GOOD_IMAGE]}


def in_json(value: Any) -> Any:
    return {"b64": base64.b64encode(value).decode().rstrip("=")} if isinstance(value, bytes) else value.tolist()


def post(server: str, document: Any, **headers: str) -> requests.Response:
    body = document if isinstance(document, bytes) else json.dumps(document)
    return requests.post(server + PREDICT, data=body, headers=headers, timeout=60)


def test_status_and_metadata_are_tf_servings(server: str, toy_model: SavedModel) -> None:
    available = {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in (MODEL, f"{MODEL}/versions/2"):
        assert requests.get(server + path, timeout=60).json() == {"model_version_status": [available]}
        metadata = requests.get(f"{server}{path}/metadata", timeout=60).json()
        assert metadata["model_spec"] == {"name": "seqmnist", "signature_name": "", "version": "2"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) >= {"serving_default", "encoded_images", "logits", "trace", "step"}
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
    images = signatures["serving_default"]["inputs"]["images"]
    assert images["dtype"] == "DT_UINT8"
    assert [axis["size"] for axis in images["tensor_shape"]["dim"]] == ["-1", "28", "28"]
    assert requests.get(f"{server}/model.json", timeout=60).json() == read_description(toy_model.path)


def test_every_signature_by_rows_and_by_columns(server: str, toy_model: SavedModel) -> None:
    pixels = data.encode(IMAGES[:3], "standard", np.arange(784))
    state = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)
    asked: dict[str, dict[str, Any]] = {
        "serving_default": {"images": IMAGES[:3]},
        "encoded_images": {"image_bytes": [tf.io.encode_png(image[..., None]).numpy() for image in IMAGES[:3]]},
        "logits": {"sequence": pixels},
        "trace": {"images": IMAGES[:3]},
        "step": {"pixels": pixels[:, 300:310], "h": state, "c": -state},
    }
    for signature, inputs in asked.items():
        expected = toy_model(signature, **inputs)
        named = {name: [in_json(value) for value in values] for name, values in inputs.items()}
        rows = [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]
        by_column = post(server, {"signature_name": signature, "inputs": named}).json()["outputs"]
        by_row = post(server, {"signature_name": signature, "instances": rows}).json()["predictions"]
        if len(expected) == 1:
            (name,) = expected
            by_column, by_row = {name: by_column}, [{name: row} for row in by_row]
        for name, wanted in expected.items():
            for answered in (by_column[name], [row[name] for row in by_row]):  # JSON keeps every bit
                np.testing.assert_array_equal(np.array(answered, wanted.dtype), wanted, err_msg=f"{signature} {name}")


def changed(value: Any) -> dict[str, Any]:
    image = [[0] * 28 for _ in range(28)]
    image[3][3] = value
    return {"instances": [image]}


BAD_BODIES: dict[str, Any] = {
    "empty": b"",
    "truncated": b'{"instances": [',
    "a list": [],
    "neither": {},
    "deep": b'{"instances": ' + b"[" * 100_000,
    "deep and whole": b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}",
    "unknown signature": {**GOOD, "signature_name": "no"},
    "instances a number": {"instances": 5},
    "27 rows of pixels": {"instances": [GOOD_IMAGE[:27]]},
    "ragged": {"instances": [[[0] * 27, *GOOD_IMAGE[1:]]]},
    **{f"{value!r} in uint8": changed(value) for value in (0.5, 1.0, "5", None, 300, -1)},  # a cast would lose the ink
    "step without h": {"signature_name": "step", "inputs": {"pixels": [[[0.5]]], "c": [[0.0] * 8]}},
    "step, plain": {"signature_name": "step", "instances": [[[0.0]]]},
    "step, h of 7": {"signature_name": "step", "inputs": {"pixels": [[[0.5]]], "h": [[0.0] * 7], "c": [[0.0] * 8]}},
    "base64 a number": {"signature_name": "encoded_images", "instances": [{"b64": 5}]},
    "no base64": {"signature_name": "encoded_images", "instances": [{"b64": "!!"}]},
    "too many pixels": {
        "signature_name": "step",
        "inputs": {"pixels": [[[0.5]] * (app.MAX_STEP_PIXELS + 1)], "h": [[0.0] * 8], "c": [[0.0] * 8]},
    },
    "no picture": {"signature_name": "encoded_images", "instances": [{"b64": "bm8gaW1hZ2U="}]},
    "257 rows": {"instances": [GOOD_IMAGE] * (app.MAX_REQUEST_ROWS + 1)},
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_answered_with_400(server: str, name: str) -> None:
    answer = post(server, BAD_BODIES[name])
    assert answer.status_code == 400 and answer.json()["error"], answer.text


def test_the_answer_to_a_bad_body_has_the_type_and_shape_of_the_inputs(server: str) -> None:
    assert "images uint8 (None, 28, 28)" in post(server, changed(0.5)).json()["error"]
    said = post(server, BAD_BODIES["step without h"]).json()["error"]
    for text in ("pixels float32 (None, None, 1)", "h float32 (None, 8)", "c float32 (None, 8)"):
        assert text in said


@pytest.mark.parametrize("path", [f"{MODEL}/versions/1", "/v1/models/other", PREDICT, "/nothing", "/../app.py"])
def test_other_paths_are_errors(server: str, path: str) -> None:
    answer = requests.get(server + path, timeout=60)
    assert answer.status_code == 404 and answer.json()["error"]


@pytest.mark.parametrize("path", [f"{MODEL}/versions/1:predict", "/v1/models/other:predict", "/v1/nothing"])
def test_a_post_to_another_path_of_the_api_is_answered_with_404(server: str, path: str) -> None:
    answer = requests.post(server + path, json=GOOD, timeout=60)
    assert answer.status_code == 404 and path in answer.json()["error"]


def test_large_bodies_are_refused(server: str) -> None:
    whole = post(server, b" " * (app.MAX_BODY_BYTES + 1))
    chunks = requests.post(server + PREDICT, data=iter([b" " * 2**20] * 9), timeout=60)
    for answer in (whole, chunks):
        assert answer.status_code == 413 and answer.json()["error"]
    assert post(server, b" " * app.MAX_BODY_BYTES).status_code == 400


def test_pages_of_other_sites_may_not_call(server: str) -> None:
    port = server.rpartition(":")[2]
    assert post(server, GOOD, Origin=server).status_code == 200
    for origin in ("https://example.org", "null", f"http://localhost:{port}", "http://127.0.0.1:1"):
        assert post(server, GOOD, Origin=origin).status_code == 403


def test_the_name_of_the_host_is_checked(server: str) -> None:
    """A site whose name resolves to this computer learns nothing."""

    def status(url: str, host: str) -> int:
        return requests.get(f"{url}{MODEL}", headers={"Host": host}, timeout=60).status_code

    for host in ("localhost", "127.0.0.1:8501", "[::1]:1"):
        assert status(server, host) == 200
    for host in ("example.org", "localhost.example.org", "192.0.2.1"):
        assert status(server, host) == 400


def test_the_page_gets_the_weights(server: str, toy_model: SavedModel, tmp_path: Path) -> None:
    page = requests.get(server, timeout=60)
    assert "<!doctype html>" in page.text and "default-src 'self'" in page.headers["content-security-policy"]
    weights = keras.saving.load_model(toy_model.path.parents[1] / "run1" / "model.keras").get_weights()
    served = requests.get(f"{server}/weights.bin", timeout=60).content
    np.testing.assert_array_equal(np.frombuffer(served, "<f4"), np.concatenate([array.ravel() for array in weights]))
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "model.json").write_text('{"difference_from_keras": {"logits": 0}}')
    with serving(SavedModel(tmp_path, {})) as url:  # another layer has no trace
        assert requests.get(f"{url}/weights.bin", timeout=60).status_code == 404


def test_the_version_is_the_one_asked_for_or_stable_or_the_newest(tmp_path: Path) -> None:
    for number in (2, 9, 10):
        (tmp_path / "seqmnist" / str(number)).mkdir(parents=True)
    assert choose_version(tmp_path / "seqmnist").name == "10"
    (tmp_path / "config").mkdir()
    text = (ROOT / "export" / "config" / "models.config").read_text()
    (tmp_path / "config" / "models.config").write_text(text)
    assert choose_version(tmp_path / "seqmnist").name == "2"
    assert choose_version(tmp_path / "seqmnist", 9).name == "9"
    (tmp_path / "config" / "models.config").write_text(text.replace("value: 2", "value: 3"))
    assert choose_version(tmp_path / "seqmnist").name == "10"


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "seqmnist_tf.serve", "--model-dir", str(folder), "--port", "0", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_request_is_answered_before_the_server_ends_and_clients_that_leave_are_not_logged(
    number: int, status: int, toy_versions: Path
) -> None:
    body = json.dumps({"signature_name": "trace", "instances": IMAGES[:8].tolist()}).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n"
    with start(toy_versions, "--version", "1") as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("version 1 at http://127.0.0.1:")
        address = ("127.0.0.1", int(line.rpartition(":")[2]))
        for sent in (body[:100], body):  # one leaves within its request, one before the answer
            with socket.create_connection(address, LONG_SECONDS) as leaving:
                leaving.sendall(head.replace("expect: 100-continue\r\n", "").encode() + sent)
        with socket.create_connection(address, LONG_SECONDS) as client:
            client.sendall(head.encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
            process.send_signal(number)
            client.sendall(body)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        _, err = process.communicate(timeout=LONG_SECONDS)
    assert process.returncode == status
    assert err == "version 2 is newer: --version 2 serves it\n" + "interrupted\n" * (status == 130)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("seconds", [0.2, 0.5, 1, 2, 3])
def test_sigterm_ends_a_server_that_starts(seconds: float, toy_versions: Path) -> None:
    with start(toy_versions) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
        out, err = process.communicate(timeout=LONG_SECONDS)
    assert (process.returncode, err) == (0 if out else -signal.SIGTERM, "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model-dir", "nowhere"], "nowhere"),
        (["--model-dir", "empty"], "empty"),
        (["--model-dir", "broken"], "broken/3"),
        (["--model-dir", "broken", "--version", "2"], "--version"),
        (["--model-dir", "broken", "--port", "TAKEN"], "127.0.0.1:TAKEN"),
        (["--model-dir", "broken", "--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--model-dir", "broken", "--port", "70000"], "--port"),
        (["--port", "x"], "--port"),
    ],
)
def test_bad_input_is_one_line(command: Command, in_tmp: Path, words: list[str], named: str) -> None:
    (in_tmp / "empty").mkdir()
    (in_tmp / "broken" / "3").mkdir(parents=True)
    (in_tmp / "broken" / "3" / "saved_model.pb").write_bytes(b"damaged")
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        free = [] if "--port" in words else ["--port", "0"]
        result = command(serve_command.main, *free, *(word.replace("TAKEN", port) for word in words))
    signal.signal(signal.SIGTERM, before)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("error: ") and named.replace("TAKEN", port) in result.err
