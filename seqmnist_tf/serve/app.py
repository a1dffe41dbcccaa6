"""The local server: TF Serving's REST API for one exported version, and a page to draw digits on.

A page of any site can post to a server on this computer; it reveals itself by the header Origin. A site whose name
resolves to this computer ("DNS rebinding") reveals itself by the header Host.
"""

from __future__ import annotations

import base64
import json
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import tensorflow as tf
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..system import first_line
from .models import SavedModel, lstm_weights
from .versions import DEFAULT_SIGNATURE, MODEL_NAME, read_description

WEB = Path(__file__).parent / "web"
MODEL_PATH = f"/v1/models/{MODEL_NAME}"
MAX_BODY_BYTES = 8 * 2**20
MAX_STEP_PIXELS = 256 * 784  # in all rows of a request to the signature step
MAX_REQUEST_ROWS = 256  # export/config/batching.config gives TF Serving the same; a test compares the two
SECURITY_HEADERS = [
    ("content-security-policy", "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
]


def create_server(model: SavedModel, host: str = "localhost") -> uvicorn.Server:
    """Return an HTTP server for a version; its ``run`` takes the sockets to listen on.

    Requests may name localhost and ``host``, where the server listens: any host where it listens on all addresses.
    """
    mimetypes.add_type("text/javascript", ".js")  # Windows may have another type for it
    name = f"[{host}]" if ":" in host else host
    hosts = ["*"] if host in ("0.0.0.0", "::") else ["localhost", "127.0.0.1", "[::1]", name]
    paths = MODEL_PATH, f"{MODEL_PATH}/versions/{model.path.name}"
    app = Starlette(
        routes=[
            *(Route(path, get_status) for path in paths),
            *(Route(f"{path}/metadata", get_metadata) for path in paths),
            *(Route(f"{path}:predict", post_predict, methods=["POST"]) for path in paths),
            Route("/v1/{path:path}", answer_not_found, methods=["GET", "POST"]),
            Route("/model.json", get_description),
            Route("/weights.bin", get_weights),
            Mount("/", StaticFiles(directory=WEB, html=True)),
        ],
        exception_handlers={HTTPException: _answer_error},  # type: ignore[dict-item]
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
    )
    app.state.model = model
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": 10}
    return uvicorn.Server(uvicorn.Config(app, headers=SECURITY_HEADERS, **options))


async def get_status(request: Request) -> Response:
    """Answer with the state of the version, as TF Serving does."""
    status = {"error_code": "OK", "error_message": ""}
    version = {"version": request.app.state.model.path.name, "state": "AVAILABLE", "status": status}
    return JSONResponse({"model_version_status": [version]})


async def get_metadata(request: Request) -> Response:
    """Answer with the version's number and its signatures, as TF Serving does."""
    model: SavedModel = request.app.state.model
    spec = {"name": MODEL_NAME, "signature_name": "", "version": model.path.name}
    return JSONResponse({"model_spec": spec, "metadata": {"signature_def": {"signature_def": model.signature_defs()}}})


async def post_predict(request: Request) -> Response:
    """Answer with the outputs of a signature, as TF Serving does."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers["host"]:
        raise HTTPException(403, f"pages of other sites may not call this server (got Origin {origin})")
    body = bytearray()
    try:  # Starlette's own limit answers in plain text
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    except ClientDisconnect:  # nobody reads the answer
        return Response(status_code=400)
    return Response(await run_in_threadpool(predict, request.app.state.model, body), media_type="application/json")


async def answer_not_found(request: Request) -> Response:
    """Answer that there is nothing at a path of the API."""
    raise HTTPException(404, f"nothing is at {request.url.path} (this server has {MODEL_PATH}:predict)")


async def get_description(request: Request) -> Response:
    """Answer with the description that export wrote about the version."""
    return JSONResponse(read_description(request.app.state.model.path))


def get_weights(request: Request) -> Response:
    """Answer with the weights of the version's LSTM, with which the page computes."""
    weights = lstm_weights(request.app.state.model.path)
    if weights is None:
        raise HTTPException(404, "only a version of a stock LSTM has weights for the page")
    return Response(weights, media_type="application/octet-stream")


def predict(model: SavedModel, body: bytes | bytearray) -> bytes:
    """Return the answer to the body of a ``:predict`` request, both TF Serving's JSON.

    A request has ``instances``, row by row, or ``inputs``, input by input, and its answer has the same form. The value
    of a single input or output stands without its name. Another body is answered with status 400, and with the type
    and shape of the signature's inputs.
    """
    hint = f"{MODEL_PATH}/metadata has the signatures"
    try:
        document = msgspec.json.decode(body)
        signature = document.get("signature_name") or DEFAULT_SIGNATURE
        specs = model.inputs(signature)
        wanted = (f"{name} {spec.dtype.name} {tuple(spec.shape)}" for name, spec in specs.items())
        hint = f"{signature} takes {', '.join(wanted)}"
        by_rows = "instances" in document
        if by_rows:
            rows = [_by_name(row, list(specs)) for row in document["instances"]]
            inputs = {name: [row[name] for row in rows] for name in specs}
        else:
            inputs = _by_name(document["inputs"], list(specs))
        for name, values in inputs.items():
            if len(values) > MAX_REQUEST_ROWS:
                raise ValueError(f"{len(values)} rows (at most {MAX_REQUEST_ROWS} are allowed)")
            if _depth(values) > specs[name].shape.rank:  # deep lists end TensorFlow's process
                raise ValueError(f"{name} has {_depth(values)} axes (it must have {specs[name].shape.rank})")
            if specs[name].dtype == tf.string:
                inputs[name] = [_decode(value["b64"]) for value in values]
            if specs[name].dtype == tf.uint8 and np.size(values):
                _require_bytes(values)
        if signature == "step" and np.size(inputs["pixels"]) > MAX_STEP_PIXELS:
            raise ValueError(f"{np.size(inputs['pixels'])} pixels (at most {MAX_STEP_PIXELS} are allowed)")
        outputs = {name: array.tolist() for name, array in model(signature, **inputs).items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        raise HTTPException(400, f"{type(error).__name__}: {first_line(error)[:200]} ({hint})") from None
    answer: Any = outputs
    if len(outputs) == 1:
        (answer,) = outputs.values()
    elif by_rows:
        answer = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return json.dumps({"predictions" if by_rows else "outputs": answer}).encode()


def _depth(value: Any) -> int:
    """Return how many lists are in each other, by the first elements."""
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    return depth


def _decode(text: str) -> bytes:
    """Return the bytes of base64, with or without padding, as TF Serving takes it."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise ValueError(f"b64 is not base64: {error}") from None


def _require_bytes(values: Any) -> None:
    """Raise ValueError unless all values are whole numbers from 0 to 255; TensorFlow would wrap others around."""
    array = np.asarray(values)
    if array.dtype.kind != "i" or array.min() < 0 or array.max() > 255:
        raise ValueError("a uint8 is a whole number from 0 to 255")


def _by_name(value: Any, names: list[str]) -> dict[str, Any]:
    if len(names) == 1 and not (isinstance(value, dict) and names[0] in value):
        return {names[0]: value}
    return {name: value[name] for name in names}


def _answer_error(request: Request, error: HTTPException) -> Any:
    return JSONResponse({"error": error.detail}, error.status_code)
