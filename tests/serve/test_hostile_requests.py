"""Requests that a page of another site, or a client that means harm, sends to the local server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from typing import Any

import pytest
import requests
from PIL import Image
from starlette.requests import empty_receive
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from seqmnist_tf.serve import app
from seqmnist_tf.serve.guard import HostCheck, Limits
from seqmnist_tf.serve.models import ServedModels
from tests.conftest import serving
from tests.serve.test_app import GOOD_IMAGE, PREDICT, post
from tests.serve.test_hostile_pictures import saved

BODY = json.dumps({"instances": [GOOD_IMAGE]}).encode()
PNG = saved("PNG")

HOSTS: list[tuple[str, str, bool]] = [
    # --host, the request's Host, whether it is answered
    ("127.0.0.1", "127.0.0.1:8501", True),
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.1", "localhost:1", True),
    ("127.0.0.1", "LOCALHOST", True),
    ("127.0.0.1", "[::1]:8501", True),
    ("127.0.0.1", "evil.example", False),
    ("127.0.0.1", "evil.example:8501", False),
    ("127.0.0.1", "localhost.evil.example", False),
    ("127.0.0.1", "127.0.0.1.nip.io", False),
    ("127.0.0.1", "127.0.0.2", False),
    ("127.0.0.1", "0.0.0.0", False),
    ("127.0.0.1", "192.168.1.5:8501", False),
    ("127.0.0.1", "user@127.0.0.1", False),
    ("127.0.0.1", "127.0.0.1/evil", False),
    ("127.0.0.1", "127.0.0.1:port", False),
    ("127.0.0.1", "[::1", False),
    ("127.0.0.1", "", False),
    ("mine.example", "mine.example:8501", True),
    ("mine.example", "localhost", True),
    ("mine.example", "evil.example", False),
    ("192.168.1.5", "192.168.1.5:8501", True),
    ("192.168.1.5", "192.168.1.6:8501", False),
    ("0.0.0.0", "192.168.1.6:8501", True),
    ("0.0.0.0", "[fe80::1]:8501", True),
    ("0.0.0.0", socket.gethostname(), True),
    ("0.0.0.0", "evil.example", False),
    ("::", "10.0.0.1", True),
    ("::", "evil.example", False),
    ("0.0.0.0", "1.2.3.4.evil.example", False),
    ("0.0.0.0", "1.2.3.4@evil.example", False),
]


def answers(host: str, *listening_on: str) -> bool:
    """Return whether a server that listens so answers requests for a host, by status 200 or 400."""
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response()(scope, receive, send)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "headers": [(b"host", host.encode())]}
    asyncio.run(HostCheck(app, listening_on)(scope, empty_receive, send))
    return {200: True, 400: False}[sent[0]["status"]]


@pytest.mark.parametrize(("listening_on", "host", "allowed"), HOSTS)
def test_only_the_servers_own_names_are_hosts(listening_on: str, host: str, allowed: bool) -> None:
    assert answers(host, listening_on) is allowed


def test_the_address_that_is_printed_is_a_host() -> None:
    assert answers("192.168.1.7:8501", "mine.example", "192.168.1.7")
    assert not answers("192.168.1.8:8501", "mine.example", "192.168.1.7")
    assert answers("[fe80::1]:8501", "mine.example", "fe80::1")
    for shorthand, bound in (("0", "0.0.0.0"), ("0:0:0:0:0:0:0:0", "::")):
        assert answers("192.168.1.8:8501", shorthand, bound)


JSON = {"Content-Type": "application/json"}
OWN = "http://{host}"
REQUESTS: list[tuple[str, str, dict[str, str], bytes, int, str]] = [
    # method, path, headers, body, status, part of the answer; {host} is the server's own
    ("GET", "/v1/models/seqmnist", {"Host": "evil.example"}, b"", 400, "Invalid host header"),
    ("GET", "/", {"Host": "evil.example:8501"}, b"", 400, "Invalid host header"),
    ("GET", "/model.json", {"Host": "\x1b[31m"}, b"", 400, "Invalid host header"),
    ("POST", PREDICT, {"Host": "evil.example", **JSON}, BODY, 400, "Invalid host header"),
    ("POST", PREDICT, {"Host": "localhost", **JSON}, BODY, 200, "predictions"),
    ("GET", "/v1/models/seqmnist", {"Origin": "http://evil.example"}, b"", 200, "AVAILABLE"),  # it cannot be read there
    ("POST", PREDICT, {"Origin": "http://evil.example", **JSON}, BODY, 403, "pages of other sites may not call"),
    ("POST", PREDICT, {"Origin": "null", **JSON}, BODY, 403, "pages of other sites may not call"),
    ("POST", PREDICT, {"Origin": "", **JSON}, BODY, 403, "pages of other sites may not call"),
    ("POST", PREDICT, {"Origin": "http://127.0.0.1:1", **JSON}, BODY, 403, "pages of other sites may not call"),
    ("POST", PREDICT, {"Origin": "http://{host}.evil.example", **JSON}, BODY, 403, "may not call"),
    ("POST", PREDICT, {"Origin": OWN, **JSON}, BODY, 200, "predictions"),
    ("POST", PREDICT, {"Origin": OWN, "Sec-Fetch-Site": "same-origin", **JSON}, BODY, 200, "predictions"),
    ("POST", PREDICT, {"Sec-Fetch-Site": "cross-site", **JSON}, BODY, 403, "Sec-Fetch-Site"),
    ("POST", PREDICT, {"Sec-Fetch-Site": "same-site", **JSON}, BODY, 403, "Sec-Fetch-Site"),
    ("POST", "/prepare", {"Origin": "http://evil.example", "Content-Type": "image/png"}, PNG, 403, "may not call"),
    ("OPTIONS", PREDICT, {"Origin": "http://evil.example"}, b"", 403, "may not call"),
    ("POST", PREDICT, {}, BODY, 200, "predictions"),
    ("POST", PREDICT, {"Content-Type": "application/json; charset=utf-8"}, BODY, 200, "predictions"),
    ("POST", PREDICT, {"Content-Type": "application/x-www-form-urlencoded"}, BODY, 200, "predictions"),  # curl -d
    (
        "POST", PREDICT, {"Content-Type": "application/x-www-form-urlencoded", "Origin": OWN}, BODY,
        415, "Content-Type must be application/json (got 'application/x-www-form-urlencoded')",
    ),
    ("POST", PREDICT, {"Content-Type": "text/plain"}, BODY, 415, "Content-Type must be application/json"),
    ("POST", PREDICT, {"Content-Type": "multipart/form-data; boundary=x"}, BODY, 415, "(got 'multipart/form-data')"),
    ("POST", PREDICT, {"Content-Type": "image/png"}, BODY, 415, "Content-Type must be application/json"),
    ("POST", "/prepare", {"Content-Type": "image/png"}, PNG, 200, "image"),
    ("POST", "/prepare", {"Content-Type": "application/octet-stream"}, PNG, 200, "image"),
    ("POST", "/prepare", {}, PNG, 200, "image"),
    ("POST", "/prepare", {"Content-Type": "text/plain"}, PNG, 415, "must be image/* or application/octet-stream"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "headers", "body", "status", "part"), REQUESTS)
def test_a_request_of_another_site_is_refused(
    server: str, method: str, path: str, headers: dict[str, str], body: bytes, status: int, part: str
) -> None:
    host = server.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        connection._buffer.append(f"{name}: {value.format(host=host)}".encode())  # type: ignore[attr-defined]
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert (answer.status, part in text) == (status, True), text
    assert answer.headers["Access-Control-Allow-Origin"] is None
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    if status >= 400 and "Host" not in headers:
        assert json.loads(text)["error"].isprintable()


def test_a_reader_that_reads_nothing_is_cut_off(toy_models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_status", lambda *_: b" " * 30_000_000)
    with serving(toy_models, Limits(reader_seconds=1)) as url, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        slow.sendall(b"GET /v1/models/seqmnist HTTP/1.1\r\nhost: localhost\r\n\r\n")
        time.sleep(2)
        received = 0
        with contextlib.suppress(ConnectionResetError):  # a system may end the stream instead
            while chunk := slow.recv(65536):
                received += len(chunk)
        assert received < 30_000_000
    with serving(toy_models) as url:  # one who reads gets all of it
        assert len(requests.get(f"{url}/v1/models/seqmnist", timeout=60).content) == 30_000_000


def test_large_pictures_delay_neither_status_nor_predictions(server: str) -> None:
    """Three pictures of 49 million pixels each, at once."""
    picture = saved("PNG", Image.new("RGBA", (7000, 7000)), compress_level=1)
    answers: list[requests.Response] = []

    def send() -> None:
        answers.append(requests.post(f"{server}/prepare", data=picture, timeout=60))

    threads = [threading.Thread(target=send) for _ in range(3)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    slowest = {"status": 0.0, "prediction": 0.0}
    asked = 0
    while any(thread.is_alive() for thread in threads):
        start = time.monotonic()
        assert requests.get(f"{server}/v1/models/seqmnist", timeout=20).status_code == 200
        middle = time.monotonic()
        assert post(server, {"instances": [GOOD_IMAGE]}).status_code == 200
        slowest["status"] = max(slowest["status"], middle - start)
        slowest["prediction"] = max(slowest["prediction"], time.monotonic() - middle)
        asked += 1
    # Behind the pictures, in the same pool, a status waited as long as all of them. A busy machine delays both.
    everything = time.monotonic() - begin
    assert asked > 2
    assert slowest["status"] < max(1, everything / 4) and slowest["prediction"] < max(2, everything / 2), slowest
    assert len(answers) == 3 and {answer.status_code for answer in answers} <= {200, 504}  # no digit, or too late


def test_decoding_has_a_time_limit_and_a_queue_with_an_end(
    toy_models: ServedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    decoded: list[bool] = []
    limits = Limits(decoding_seconds=1.5, waiting_pictures=4)
    statuses: list[Any] = []

    def send() -> None:
        answer = requests.post(f"{url}/prepare", data=PNG, timeout=30)
        statuses.append((answer.status_code, answer.json()["error"]))

    count = limits.decoding_threads + limits.waiting_pictures
    with serving(toy_models, limits) as url:
        with monkeypatch.context() as patch:
            patch.setattr(app, "prepare_picture", lambda *_: decoded.append(release.wait(30)))
            threads = [threading.Thread(target=send) for _ in range(count + 5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            # The two that began keep their places until they end: whoever comes now waits in vain.
            send()
            release.set()
        assert statuses.count((504, "no answer within 1.5 s")) == count + 1
        assert statuses.count((503, "too many requests wait for pictures (try again later)")) == 5
        assert requests.post(f"{url}/prepare", data=PNG, timeout=30).status_code == 200  # the threads are free again
    assert len(decoded) == limits.decoding_threads  # nobody decodes what nobody waits for
