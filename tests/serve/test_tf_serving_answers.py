"""Requests, TF Serving's answers, and the local server's: where they differ, the documentation says so.

TF Serving's answers were seen with its own server code of July 2026, without batching (docs/serving.md, What was
tested). Its texts are cut.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seqmnist_tf.serve import exported_versions, guard
from seqmnist_tf.serve.models import ServedModels, read_labels
from seqmnist_tf.system import InputError
from tests.conftest import serving, with_labels
from tests.serve.test_app import GOOD_IMAGE, PREDICT, png
from tests.toy import ROOT, toy_mnist

MODEL = "/v1/models/seqmnist"
GOOD = {"instances": [GOOD_IMAGE]}
LOGITS: dict[str, Any] = {"signature_name": "logits"}
STEP = {"pixels": [[[0.5]]], "h": [[0.0] * 8], "c": [[0.0] * 8]}
OK = "OK"
IMAGE = toy_mnist()["test"].images[0]


def images(value: Any) -> dict[str, Any]:
    image = [[0] * 28 for _ in range(28)]
    image[3][3] = value
    return {"instances": [image]}


def numbers(text: str) -> bytes:
    """Return a request of logits whose first number is written so."""
    return json.dumps({**LOGITS, "inputs": {"sequence": [[["@"]] + [[0.0]] * 783]}}).replace('"@"', text).encode()


def encoded(content: Any) -> dict[str, Any]:
    return {"signature_name": "encoded_images", "instances": [content]}


class Row(NamedTuple):
    """A request, the status and a part of the text of TF Serving's answer, and those of ours; None is the same."""

    method: str
    path: str
    body: Any
    theirs: tuple[int, str]
    ours: tuple[int, str] | None = None


def predict(body: Any, theirs: tuple[int, str], ours: tuple[int, str] | None = None) -> Row:
    return Row("POST", PREDICT, body, theirs, ours)


SAME_PARSE = (400, "JSON Parse error: ")
IMAGES_RULE = "images must be uint8 of shape (any, 28, 28)"
STEP_RULE = "inputs must be an object of "
ROWS: dict[str, Row] = {
    # Bodies
    "a good request": predict(GOOD, (200, "predictions")),
    "truncated JSON": predict(b'{"instances": [', SAME_PARSE),
    "empty body": predict(b"", SAME_PARSE),
    "top level is a list": predict([], (400, "Is not object"), (400, "the body must be a JSON object (got [])")),
    "trailing garbage": predict(json.dumps(GOOD).encode() + b"x", (200, OK), SAME_PARSE),
    "unknown signature": predict({**GOOD, "signature_name": "no"}, (400, 'Serving signature name: "no" not')),
    "signature_name a number": predict(
        {**GOOD, "signature_name": 5}, (400, "JSON Value:"), (400, "Serving signature name: 5 not found (known: ")
    ),
    "signature_name empty": predict({**GOOD, "signature_name": ""}, (200, "predictions")),
    "both instances and inputs": predict({**GOOD, "inputs": []}, (400, "JSON Value"), (400, "(got both)")),
    "neither": predict({}, (400, "Missing 'inputs' or 'instances' key"), (400, "(got neither)")),
    "instances empty": predict({"instances": []}, (400, "No values in"), (400, "at least one element (got [])")),
    "instances a number": predict({"instances": 5}, (400, "Expecting 'instances'"), (400, "(got 5)")),
    "instances null": predict({"instances": None}, (400, "Expecting 'instances'"), (400, "(got null)")),
    "zero rows": predict({"inputs": {"images": []}}, (200, OK), (400, "(got lists of [0] on axis 0)")),
    "an image without rows": predict({"inputs": GOOD_IMAGE}, (400, "reshape"), (400, f"{IMAGES_RULE} (got 0)")),
    "27 rows of pixels": predict(
        {"instances": [GOOD_IMAGE[:27]]}, (400, "reshape"), (400, f"{IMAGES_RULE} (got lists of [27] on axis 1)")
    ),
    "ragged": predict(
        {"instances": [[[0] * 27, *GOOD_IMAGE[1:]]]}, (400, "size"), (400, "(got lists of [27, 28] on axis 2)")
    ),
    "two images of two shapes": predict(
        {"instances": [GOOD_IMAGE, GOOD_IMAGE[:27]]}, (400, "Expecting tensor size"), (400, IMAGES_RULE)
    ),
    **{
        f"{value!r} in uint8": predict(
            images(value), (400, "expected type: uint8"), (400, f"{IMAGES_RULE}, 0 to 255 (got {json.dumps(value)})")
        )
        for value in (0.5, 1.0, "a", True, None)
    },
    "300 in uint8": predict(images(300), (200, OK), (400, "0 to 255 (got 300)")),
    "-1 in uint8": predict(images(-1), (200, OK), (400, "0 to 255 (got -1)")),
    "NaN in float": predict(numbers("NaN"), (200, OK), (400, "NaN is not valid JSON")),
    "1e400 in float": predict(numbers("1e400"), (400, "too big"), (400, "outside float32's range")),
    "1e39 in float": predict(numbers("1e39"), (200, OK), (400, "outside float32's range")),
    "step without h": predict(
        {"signature_name": "step", "inputs": {"pixels": [], "c": []}}, (400, "Missing named input: h"), (400, STEP_RULE)
    ),
    "step, plain instances": predict(
        {"signature_name": "step", "instances": [[[0.0]]]}, (400, "plain list"), (400, STEP_RULE)
    ),
    "step, rows 2 and 1": predict(
        {"signature_name": "step", "inputs": {**STEP, "pixels": [[[0.5]]] * 2}},
        (400, "0th-dimension"), (400, "all inputs must have the same number of rows"),
    ),
    "step, h of 7": predict(
        {"signature_name": "step", "inputs": {**STEP, "h": [[0.0] * 7]}},
        (400, "h_prev.dims(1)"), (400, "h must be float32 of shape (any, 8)"),
    ),
    "an input of another name": predict(
        {"inputs": {"image": [GOOD_IMAGE]}}, (400, "Missing named input"), (400, IMAGES_RULE)
    ),
    "an input too many": predict(
        {"inputs": {"images": [GOOD_IMAGE], "x": [1]}}, (200, OK), (400, "inputs must be an object of")
    ),
    "an instance with a key too many": predict(
        {"instances": [{"images": GOOD_IMAGE, "x": 1}]},
        (400, "does not have named input: x"), (400, "inputs must be an object of images"),
    ),
    "b64 garbage": predict(encoded({"b64": "!!!"}), (400, "base64"), (400, '"b64" must be base64 text (got "!!!")')),
    "b64 a number": predict(encoded({"b64": 5}), (400, "b64"), (400, "image_bytes must be string")),
    "b64 of no image": predict(encoded({"b64": "bm8="}), (400, "must be PNG or JPEG images of 28x28")),
    "b64 unpadded": predict(encoded({"b64": "bm8"}), (400, "must be PNG")),
    "a plain string for bytes": predict(
        encoded("bm8="), (400, "must be PNG"), (400, 'image_bytes must be string of shape (any), each {"b64": "..."}')
    ),
    "a picture in b64": predict(encoded({"b64": png(IMAGE)}), (200, "predictions")),
    "65 images": predict({"instances": [GOOD_IMAGE] * 65}, (200, "predictions")),
    "257 images": predict(
        {"instances": [GOOD_IMAGE] * 257}, (200, "predictions"), (400, "at most 256 rows (got 257)")
    ),
    "trace of 33 images": predict(
        {"signature_name": "trace", "instances": [GOOD_IMAGE] * 33},
        (200, "predictions"), (400, "at most 25,088 pixels in all rows (got 25,872)"),
    ),
    # Versions and labels
    "version 2": Row("POST", f"{MODEL}/versions/2:predict", GOOD, (200, "predictions")),
    "version 02": Row("POST", f"{MODEL}/versions/02:predict", GOOD, (200, "predictions")),
    "unknown version": Row("POST", f"{MODEL}/versions/9:predict", GOOD, (404, "request: Specific(seqmnist, 9)")),
    "unknown version, status": Row("GET", f"{MODEL}/versions/9", b"", (404, "Could not find version 9 of model")),
    "unknown version, metadata": Row("GET", f"{MODEL}/versions/9/metadata", b"", (404, "Specific(seqmnist, 9)")),
    "version not a number": Row("POST", f"{MODEL}/versions/x:predict", GOOD, (400, "Malformed request: POST /v1/")),
    "version -1": Row("POST", f"{MODEL}/versions/-1:predict", GOOD, (400, "Malformed request: POST /v1/")),
    "version beyond int64": Row("POST", f"{MODEL}/versions/{2**63}:predict", GOOD, (400, ""), (400, "Malformed")),
    "version of 5,000 digits": Row("GET", f"{MODEL}/versions/{'9' * 5000}", b"", (400, ""), (400, "Malformed")),
    "label stable": Row("POST", f"{MODEL}/labels/stable:predict", GOOD, (200, "predictions")),
    "label stable, status": Row("GET", f"{MODEL}/labels/stable", b"", (200, "model_version_status")),
    "label stable, metadata": Row("GET", f"{MODEL}/labels/stable/metadata", b"", (200, "signature_def")),
    "a label whose version has gone": Row("POST", f"{MODEL}/labels/gone:predict", GOOD, (404, "Specific(seqmnist, 7)")),
    "unknown label": Row("POST", f"{MODEL}/labels/no:predict", GOOD, (400, "Unrecognized servable version label: no")),
    "status of an unknown label": Row(
        "GET", f"{MODEL}/labels/no", b"", (200, "status"), (400, "Unrecognized servable version label: no")
    ),
    # Models, methods and paths
    "unknown model": Row("POST", "/v1/models/other:predict", GOOD, (404, "not found for request: Latest(other)")),
    "unknown model, status": Row("GET", "/v1/models/other", b"", (404, "Could not find any versions of model other")),
    "no model": Row("GET", "/v1/models", b"", (400, "Missing model name in request.")),
    "unknown verb": Row("POST", f"{MODEL}:foo", GOOD, (400, "Malformed request: POST /v1/models/seqmnist:foo")),
    ":classify": Row("POST", f"{MODEL}:classify", GOOD, (400, "No classification"), (400, "Malformed request: ")),
    "GET of :predict": Row("GET", PREDICT, b"", (400, f"Malformed request: GET {PREDICT}")),
    "POST of status": Row("POST", MODEL, GOOD, (400, f"Malformed request: POST {MODEL}")),
    "PUT of :predict": Row("PUT", PREDICT, GOOD, (400, f"Malformed request: PUT {PREDICT}")),
    "DELETE of status": Row("DELETE", MODEL, b"", (400, f"Malformed request: DELETE {MODEL}")),
    "OPTIONS of :predict": Row("OPTIONS", PREDICT, b"", (400, ""), (400, "Malformed request: OPTIONS")),
    "HEAD of status": Row("HEAD", MODEL, b"", (400, "")),
    "trailing slash": Row("GET", f"{MODEL}/", b"", (400, f"Malformed request: GET {MODEL}/")),
    "query string": Row("GET", f"{MODEL}?a=1", b"", (404, "Could not find any versions of model seqmnist?a=1")),
    "query string of :predict": Row("POST", f"{PREDICT}?a=1", GOOD, (400, f"Malformed request: POST {PREDICT}?a=1")),
    "path in capitals": Row("GET", "/V1/MODELS/seqmnist", b"", (200, "status"), (404, "Malformed request: ")),
    "path elsewhere": Row("GET", "/nothing", b"", (404, "<HTML>"), (404, "Malformed request: GET /nothing")),
    "root": Row("GET", "/", b"", (404, "<HTML>"), (200, "<!doctype html>")),
    "a gzip body": predict(gzip.compress(json.dumps(GOOD).encode()), (200, "predictions"), (415, "gzip")),
}  # fmt: skip


SIGNATURE = "Serving signature name: "
OWN_ROWS: dict[str, Row] = {  # which TF Serving was not asked
    "no UTF-8": predict(b"\xff\xfe\x00", SAME_PARSE),
    "nested deeply": predict(b"[" * 100_000, (400, "JSON Parse error: nested too deeply")),
    **{
        f"signature_name {name}": predict({**GOOD, "signature_name": json.loads(name)}, (400, f"{SIGNATURE}{name} not"))
        for name in ("0", "null", "false", "[]", "{}")
    },
    "10**400 in float": predict(numbers(f"{10**400}"), (400, "outside float32's range")),
    "b64 of nothing": predict(encoded({"b64": ""}), (400, "must be PNG or JPEG images of 28x28")),
    "b64 of 27 rows": predict(encoded({"b64": png(IMAGE[:27])}), (400, "must be PNG or JPEG images of 28x28")),
}


@pytest.fixture(scope="module")
def labelled(toy_models: ServedModels) -> Iterator[str]:
    """Serve the toy versions with two labels, of which one names a version that there is not."""
    with serving(with_labels(toy_models, stable=1, gone=7)) as url:
        yield url


@pytest.mark.parametrize("name", ROWS | OWN_ROWS)
def test_the_answer_is_tf_servings_or_a_documented_one(labelled: str, name: str) -> None:
    row = (ROWS | OWN_ROWS)[name]
    body = row.body if isinstance(row.body, bytes) else json.dumps(row.body).encode()
    headers = {"Content-Encoding": "gzip"} if name == "a gzip body" else {}
    connection = http.client.HTTPConnection(labelled.removeprefix("http://"), timeout=30)
    connection.request(row.method, row.path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    status, part = row.ours or row.theirs
    shown = json.loads(text)["error"] if text.startswith('{"error"') else text
    assert (answer.status, part in shown) == (status, True), (answer.status, shown[:300])
    assert len(shown) < 400 or status == 200


def test_the_documentation_lists_what_differs() -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    section = page.split("\n## What differs from TF Serving\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| (\d+)\b.*? \| (\d+)\b.*? \|$", section, re.MULTILINE)
    listed = {name: (int(theirs), int(ours)) for name, theirs, ours in rows}
    differing = {
        name: (row.theirs[0], row.ours[0]) for name, row in ROWS.items() if row.ours and row.ours[0] != row.theirs[0]
    }
    assert listed == differing


def test_labels_are_those_of_the_configuration_beside_the_versions(tmp_path: Path) -> None:
    assert read_labels(ROOT / "export" / "seqmnist")["stable"] in exported_versions(ROOT / "export" / "seqmnist")
    assert read_labels(tmp_path / "other") == {}
    (tmp_path / "config").mkdir()
    config = tmp_path / "config" / "models.config"
    (tmp_path / "other").mkdir()
    entry = 'config { name: "%s" version_labels { key: "canary" value: %d } }'
    config.write_text(f"model_config_list {{ {entry % ('seqmnist', 2)} {entry % ('else', 1)} }}")
    assert read_labels(tmp_path / "other") == {"canary": 2}
    config.write_text("model_config_list { \x1b")
    with pytest.raises(InputError, match=r"cannot read .*models\.config: ") as raised:
        read_labels(tmp_path / "other")
    assert str(raised.value).isprintable()


def test_the_servers_limit_of_rows_is_tried() -> None:
    assert len(ROWS["257 images"].body["instances"]) == guard.MAX_REQUEST_ROWS + 1
