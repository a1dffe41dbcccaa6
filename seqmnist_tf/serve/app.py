"""The local server's application: TF Serving's REST API for exported versions, and a page to draw digits on.

Each endpoint computes its answer in a pool of worker threads, so that the event loop stays free for other clients.
"""

from __future__ import annotations

import asyncio
import io
import json
import mimetypes
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow as tf
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ..system import InputError, available_cores, first_line
from .http_limits import ANSWER_SECONDS, RequestError, WithSecurityHeaders, read_body
from .models import ServedModels
from .picture import read_picture
from .predict_json import parse_predict, predict_answer
from .versions import MODEL_NAME

WEB = Path(__file__).parent / "web"


def create_app(models: ServedModels) -> Starlette:
    """Return the ASGI application that answers with the given models."""
    mimetypes.add_type("text/javascript", ".js")  # Windows may have another type for it
    handlers: Mapping[Any, Any] = {RequestError: _refuse, HTTPException: _refuse_path, Exception: _report_failure}
    app = Starlette(routes=_routes(), exception_handlers=handlers, middleware=[Middleware(WithSecurityHeaders)])
    app.state.models = models
    app.state.workers = ThreadPoolExecutor(available_cores(), thread_name_prefix="model")
    return app


def _routes() -> list[BaseRoute]:
    routes: list[BaseRoute] = []
    for path in ("/v1/models/{model}", "/v1/models/{model}/versions/{version}"):
        # Before the plain path, whose {model} would match "seqmnist:predict" too.
        routes += [
            Route(f"{path}:predict", post_predict, methods=["POST"]),
            Route(f"{path}/metadata", get_metadata),
            Route(path, get_status),
        ]
    return [
        *routes,
        Route("/model.json", get_description),
        Route("/prepare", post_prepare, methods=["POST"]),
        Mount("/", StaticFiles(directory=WEB, html=True)),
    ]


async def get_status(request: Request) -> Response:
    """Answer with the state of one version, or of all versions."""
    return await _in_worker(request, _status, request.app.state.models, _requested_version(request))


async def get_metadata(request: Request) -> Response:
    """Answer with the signatures of a version."""
    return await _in_worker(request, _metadata, request.app.state.models, _requested_version(request))


async def post_predict(request: Request) -> Response:
    """Answer with the outputs of a signature for the inputs in the request's body."""
    version = _requested_version(request)
    return await _in_worker(request, _predict, request.app.state.models, version, await read_body(request))


async def get_description(request: Request) -> Response:
    """Answer with the description that export wrote about the newest version."""
    return await _in_worker(request, _description, request.app.state.models)


async def post_prepare(request: Request) -> Response:
    """Answer with the picture in the request's body in MNIST's form, 28 rows of 28 pixels."""
    return await _in_worker(request, _prepare, await read_body(request))


async def _in_worker(request: Request, function: Callable[..., bytes], *args: Any) -> Response:
    """Answer with the JSON that ``function`` returns, called in a worker thread."""
    work = asyncio.get_running_loop().run_in_executor(request.app.state.workers, function, *args)
    try:
        content = await asyncio.wait_for(work, ANSWER_SECONDS)
    except TimeoutError:
        raise RequestError(504, f"no answer within {ANSWER_SECONDS:g} s") from None
    return Response(content, media_type="application/json")


def _status(models: ServedModels, version: str | None) -> bytes:
    numbers = sorted(models.paths, reverse=True) if version is None else [models.get(version)[0]]
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return json.dumps({"model_version_status": [{"version": str(n), **available} for n in numbers]}).encode()


def _metadata(models: ServedModels, version: str | None) -> bytes:
    number, model = models.get(version)
    return json.dumps(
        {
            "model_spec": {"name": MODEL_NAME, "signature_name": "", "version": str(number)},
            "metadata": {"signature_def": {"signature_def": model.signature_defs()}},
        }
    ).encode()


def _predict(models: ServedModels, version: str | None, body: bytes) -> bytes:
    _, model = models.get(version)
    request = parse_predict(body, model)
    try:
        return predict_answer(request, model(request.signature, **request.inputs))
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(400, first_line(error)) from None


def _description(models: ServedModels) -> bytes:
    return json.dumps(models.get(None)[1].description).encode()


def _prepare(body: bytes) -> bytes:
    try:
        return json.dumps({"image": read_picture(io.BytesIO(body), "the picture").tolist()}).encode()
    except InputError as error:
        raise RequestError(400, str(error)) from None


def _requested_version(request: Request) -> str | None:
    """Return the version in the request's path, None if it has none.

    Raises:
        RequestError: 404, another model's name; 400, a verb other than ``:predict``.
    """
    model = request.path_params["model"]
    if ":" in model:
        raise RequestError(400, f"Malformed request: {request.method} {request.url.path}")
    if model != MODEL_NAME:
        raise RequestError(404, f"Servable not found for request: Latest({model})")
    return request.path_params.get("version")


def _refuse(_: Request, error: RequestError) -> Response:
    # After a body that was not read to its end, the connection cannot carry another request.
    headers = {"connection": "close"} if error.status in (408, 413) else {}
    return JSONResponse({"error": str(error)}, error.status, headers)


def _refuse_path(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": f"Malformed request: {request.method} {request.url.path}"}, error.status_code)


def _report_failure(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": first_line(error)}, 500)
