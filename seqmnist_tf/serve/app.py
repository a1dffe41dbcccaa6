"""The local server's application: TF Serving's REST API for one exported version, and a page to draw digits on.

A page of any site can post to a server on this computer; it reveals itself by the header Origin. A site whose name
resolves to this computer ("DNS rebinding") reveals itself by the header Host.
"""

from __future__ import annotations

import importlib.metadata
import io
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tensorflow as tf
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..system import InputError, first_line
from .models import SavedModel
from .picture import prepare_picture
from .rest import parse_predict, predict_answer
from .versions import MODEL_NAME

WEB = Path(__file__).parent / "web"
MODEL_PATH = f"/v1/models/{MODEL_NAME}"
MAX_BODY_BYTES = 8 * 2**20


def create_app(model: SavedModel, host: str = "localhost") -> Starlette:
    """Return the ASGI application of a version; requests may name localhost and ``host``, where the server listens.

    Where it listens on all addresses, requests may name any host.
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
            Mount("/v1", routes=[]),  # 404 for all else
            Route("/model.json", get_description),
            Route("/prepare", post_prepare, methods=["POST"]),
            Mount("/", StaticFiles(directory=WEB, html=True)),
        ],
        exception_handlers={HTTPException: _answer_error},  # type: ignore[dict-item]
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES),
        ],
    )
    app.state.model = model
    return app


async def get_status(request: Request) -> Response:
    """Answer with the state of the version, as TF Serving does."""
    status = {"error_code": "OK", "error_message": ""}
    version = {"version": request.app.state.model.path.name, "state": "AVAILABLE", "status": status}
    return JSONResponse({"model_version_status": [version]})


async def get_metadata(request: Request) -> Response:
    """Answer with the version's number and its signatures, as TF Serving does."""
    model: SavedModel = request.app.state.model
    spec = {"name": MODEL_NAME, "signature_name": "", "version": model.path.name}
    return JSONResponse({"model_spec": spec, "metadata": {"signature_def": {"signature_def": model.signature_defs}}})


async def post_predict(request: Request) -> Response:
    """Answer with the outputs of a signature, as TF Serving does."""
    body = await _body_of_own_page(request)
    return Response(await run_in_threadpool(_predict, request.app.state.model, body), media_type="application/json")


async def get_description(request: Request) -> Response:
    """Answer with the description that export wrote about the version."""
    return JSONResponse({**request.app.state.model.description, "project": project_address()})


async def post_prepare(request: Request) -> Response:
    """Answer with the digit of the picture in the body in MNIST's form, or null."""
    body = await _body_of_own_page(request)
    try:
        image = await run_in_threadpool(prepare_picture, io.BytesIO(body), "the picture")
    except InputError as error:
        raise HTTPException(400, str(error)) from None
    return JSONResponse({"image": None if image is None else image.tolist()})


def project_address() -> str | None:
    """Return the address of the project's repository, as its metadata have it; None where no owner has set it."""
    try:
        urls = importlib.metadata.metadata("seqmnist_tf").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:  # a folder of sources that is not installed
        return None
    return dict(url.split(", ", 1) for url in urls).get("Repository")


async def _body_of_own_page(request: Request) -> bytes:
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers["host"]:
        raise HTTPException(403, f"pages of other sites may not call this server (got Origin {origin})")
    return await request.body()


def _predict(model: SavedModel, body: bytes) -> bytes:
    request = parse_predict(body, model)
    try:
        return predict_answer(request, model(request.signature, **request.inputs))
    except tf.errors.InvalidArgumentError as error:
        raise HTTPException(400, first_line(error)) from None


def _answer_error(request: Request, error: HTTPException) -> Any:
    return JSONResponse({"error": error.detail}, error.status_code)
