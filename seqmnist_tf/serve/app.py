"""The local server's application: TF Serving's REST API for exported versions, and a page to draw digits on.

Models compute in one pool of threads, and pictures are decoded in another, smaller one: the event loop stays free, and
pictures that take long delay only other pictures.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..system import InputError, available_cores, first_line, printable
from .guard import HostCheck, Limits, Pool, RequestError, read_body, require_own_page
from .models import ServedModels
from .picture import prepare_picture
from .rest import parse_path, parse_predict, predict_answer
from .versions import MODEL_NAME

WEB = Path(__file__).parent / "web"
# TF Serving refuses methods as it refuses paths, with 400 and not with 405.
ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]


def create_app(models: ServedModels, limits: Limits, *hosts: str) -> Starlette:
    """Return the ASGI application of versions; requests may name localhost and ``hosts``, where the server listens."""
    mimetypes.add_type("text/javascript", ".js")  # Windows may have another type for it
    app = Starlette(
        routes=[
            Route("/v1/{path:path}", answer_api, methods=ALL_METHODS),
            Route("/model.json", get_description),
            Route("/prepare", post_prepare, methods=["POST"]),
            Mount("/", StaticFiles(directory=WEB, html=True)),
        ],
        exception_handlers=dict.fromkeys((RequestError, HTTPException, Exception), _answer_error),
        middleware=[Middleware(HostCheck, hosts)],
    )
    app.state.models, app.state.limits = models, limits
    app.state.model_pool = Pool("the model", available_cores(), limits.connections, limits.answer_seconds)
    # Others go on with the versions that are loaded.
    app.state.loading_pool = Pool("the model", 1, limits.connections, limits.answer_seconds)
    pictures = limits.decoding_threads, limits.waiting_pictures, limits.decoding_seconds
    app.state.picture_pool = Pool("pictures", *pictures)
    return app


async def answer_api(request: Request) -> Response:
    """Answer a request of TF Serving's REST API: a version's status or metadata, or the outputs of a signature."""
    if request.method not in ("GET", "HEAD"):
        require_own_page(request)
    asked, number, label = parse_path(request)
    models: ServedModels = request.app.state.models
    if label is not None:
        if label not in models.labels:
            raise RequestError(400, f"Unrecognized servable version label: {printable(label, 80)}")
        number = models.labels[label]
    if asked == "status":
        return _json(_status(models, number))
    if asked == "metadata":
        return await _from_model(request, _metadata, number)
    body = await read_body(request, request.app.state.limits.body_seconds, "application/json")
    return await _from_model(request, _predict, number, body)


async def get_description(request: Request) -> Response:
    """Answer with the description that export wrote about the newest version."""
    return await _from_model(request, _description)


async def post_prepare(request: Request) -> Response:
    """Answer with the largest digit of the picture in the body in MNIST's form, or null, and the number of digits."""
    body = await read_body(request, request.app.state.limits.body_seconds, "image/*", "application/octet-stream")
    return _json(await request.app.state.picture_pool.run(_prepare, body))


async def _from_model(
    request: Request, function: Callable[..., bytes], number: int | None = None, *args: Any
) -> Response:
    """Answer with the JSON that ``function`` of the models, of a version's number and of ``args`` returns."""
    state = request.app.state
    if not state.models.is_loaded(number):
        await state.loading_pool.run(state.models.get, number)
    return _json(await state.model_pool.run(function, state.models, number, *args))


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _status(models: ServedModels, number: int | None) -> bytes:
    if number is not None and number not in models.paths:
        raise RequestError(404, f"Could not find version {number} of model {MODEL_NAME}")
    numbers = sorted(models.paths, reverse=True) if number is None else [number]
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return json.dumps({"model_version_status": [{"version": str(n), **available} for n in numbers]}).encode()


def _metadata(models: ServedModels, number: int | None) -> bytes:
    model = models.get(number)
    version = str(models.newest if number is None else number)
    return json.dumps(
        {
            "model_spec": {"name": MODEL_NAME, "signature_name": "", "version": version},
            "metadata": {"signature_def": {"signature_def": model.signature_defs}},
        }
    ).encode()


def _predict(models: ServedModels, number: int | None, body: bytes) -> bytes:
    model = models.get(number)
    request = parse_predict(body, model)
    try:
        return predict_answer(request, model(request.signature, **request.inputs))
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(400, first_line(error)) from None


def _description(models: ServedModels, number: int | None) -> bytes:
    try:
        description = models.get(number).description
    except InputError:
        raise RequestError(404, f"version {models.newest} has no description") from None
    return json.dumps({**description, "project": project_address()}).encode()


def project_address() -> str | None:
    """Return the address of the project's repository, as its metadata have it; None where no owner has set it."""
    try:
        urls = importlib.metadata.metadata("seqmnist_tf").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:  # a folder of sources that is not installed
        return None
    return dict(url.split(", ", 1) for url in urls).get("Repository")


def _prepare(body: bytes) -> bytes:
    try:
        prepared = prepare_picture(io.BytesIO(body), "the picture")
        image = None if prepared.image is None else prepared.image.tolist()
        return json.dumps({"image": image, "digits": prepared.digits}).encode()
    except InputError as error:
        raise RequestError(400, str(error)) from None


def _answer_error(request: Request, error: Exception) -> Response:
    status, text = 500, first_line(error)
    if isinstance(error, RequestError):
        status, text = error.status, str(error)
    elif isinstance(error, HTTPException):
        status = error.status_code
        text = f"Malformed request: {request.method} {printable(request.url.path, 200)}"
    # After a body that did not end in time, nothing more is read.
    return JSONResponse({"error": text}, status, {"connection": "close"} if status == 408 else {})
