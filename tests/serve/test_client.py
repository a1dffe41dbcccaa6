"""The client: against REST and gRPC servers of this process, and TF Serving if available."""

from __future__ import annotations

import base64
import http.server
import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seqmnist_tf import client
from seqmnist_tf.serve import DEFAULT_FOLDER, SavedModel, ask, choose_version, classify, prepare_picture
from seqmnist_tf.serve.app import WEB
from seqmnist_tf.system import RunError
from tests.conftest import Command
from tests.serve.conftest import Service
from tests.toy import ROOT, toy_mnist


@pytest.fixture
def digits(in_tmp: Path) -> list[str]:
    """Write three pictures of toy digits into a folder; return their paths."""
    paths = [f"pictures/{n}.png" for n in range(3)]
    Path("pictures").mkdir()
    for path, image in zip(paths, toy_mnist()["test"].images, strict=False):
        Image.fromarray(255 - image).resize((140, 140)).save(path)
    return paths


def test_answers_are_the_models(
    command: Command, digits: list[str], server: str, toy_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (60, 60), 255).save("blank.png")
    expected = toy_model(images=np.array([prepare_picture(path) for path in digits]))
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
    head, *rows = command(client.main, *digits, "blank.png", "--server", server).out.splitlines()
    assert head.split() == ["picture", "digit", "probability", "verdict"]
    probability = f"{expected['probabilities'][1].max():.1%}"
    assert rows[1].split() == [digits[1], str(expected["class_id"][1]), probability, answers[1]["verdict"]]
    assert rows[3].split(maxsplit=3) == ["blank.png", "-", "-", "no digit"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(digits[0]).read_bytes())))
    shown = command(client.main, "-", "--server", server, "--show").out
    assert "@@" in shown and len(shown.splitlines()) == 31


def test_an_answer_is_sure_from_a_probability_on() -> None:
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


CLIENT = """
import sys
from seqmnist_tf import client
client.main(sys.argv[1:])
assert not {"tensorflow", "keras", "grpc"} & set(sys.modules)
"""


def test_the_client_does_not_wait_for_tensorflow(digits: list[str], server: str) -> None:
    words = [sys.executable, "-c", CLIENT, str(Path(digits[0]).resolve()), "--server", server]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120).stderr
    assert said == f"version 2 at {server} answered\n"


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
    assert result.status == 1 and url in result.err and "INVALID_ARGUMENT: two are too many" in result.err
    result = command(client.main, *digits, "--server", url, "--timeout", "0.5")
    assert result.status == 1 and "DEADLINE_EXCEEDED" in result.err
    assert service.rows[0] == 2


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


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "grpc://127.0.0.1:9", "http://h.invalid"])
def test_no_server_is_one_line(command: Command, digits: list[str], url: str) -> None:
    result = command(client.main, digits[0], "--server", url)
    *_, error = result.err.splitlines()
    assert result.status == 1 and error.startswith("error: ") and url in error


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["no.png", "pictures/0.png"], "no.png"),
        (["missing.png"], "missing.png"),
        (["empty"], "empty"),
        ([], "IMAGE"),
        (["pictures/0.png", "--timeout=soon"], "--timeout"),
        (["pictures/0.png", "--timeout=0"], "--timeout"),
        *((["pictures/0.png", "--server", url], "--server") for url in ("127.0.0.1:8501", "ftp://h", "http://")),
    ],
)
def test_bad_input_is_one_line(command: Command, digits: list[str], words: list[str], named: str) -> None:
    Path("no.png").write_text("no picture")
    Path("empty").mkdir()
    result = command(client.main, *words)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("error: ") and named in result.err


def test_the_sample_digits_are_classified_correctly() -> None:
    samples = json.loads((WEB / "samples.json").read_text())
    images = [np.frombuffer(base64.b64decode(sample["pixels"]), np.uint8).reshape(28, 28) for sample in samples]
    answers = SavedModel.load(choose_version(ROOT / DEFAULT_FOLDER))(images=np.stack(images))
    assert answers["class_id"].tolist() == [sample["label"] for sample in samples] == list(range(10))
    assert answers["probabilities"].max(axis=1).min() > 0.95
