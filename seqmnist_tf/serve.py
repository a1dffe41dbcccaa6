"""A local server with TF Serving's REST API and a page to draw on, for machines without Docker.

python -m seqmnist_tf.serve [--model-dir DIR] [--host 127.0.0.1] [--port 8501]
"""

from __future__ import annotations

import asyncio
import io
import json
import mimetypes
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from . import cli, picture, rest, runtime
from .errors import InputError, first_line
from .limits import Protocol, WithHeaders, read_body
from .rest import RequestError
from .saved_model import DEFAULT_FOLDER, MODEL_NAME, SavedModel, versions

WEB = Path(__file__).parent / "web"
ANSWER_SECONDS = 60.0
SHUTDOWN_SECONDS = 10
MAX_CONNECTIONS = 512
GIVE = "give --model-dir a folder that seqmnist_tf.export wrote to"


class Models:
    """The versions that were in a folder at the start: the newest is loaded at once, others when they are asked for."""

    def __init__(self, folder: Path) -> None:
        try:
            self.paths = versions(folder)
        except OSError as error:
            raise InputError(f"cannot read {folder}: {error.strerror} ({GIVE})") from None
        if not self.paths:
            raise InputError(f"{folder} holds no version ({GIVE})")
        self.newest = max(self.paths)
        self._loaded: dict[int, SavedModel] = {}
        self._lock = threading.Lock()
        self.get(None)

    def get(self, version: str | None) -> tuple[int, SavedModel]:
        """Return a version by the name that a request gives it, None for the newest, and its number.

        Raises:
            RequestError: 404, there is no such version.
        """
        version = str(self.newest) if version is None else version
        number = {str(number): number for number in self.paths}.get(version)
        if number is None:
            raise RequestError(404, f"Servable not found for request: Specific({MODEL_NAME}, {version[:20]})")
        with self._lock:
            if number not in self._loaded:
                model = SavedModel.load(self.paths[number])
                for signature, inputs in model.warm_up_requests():
                    model(signature, **inputs)
                self._loaded[number] = model
            return number, self._loaded[number]


def create_app(models: Models) -> Starlette:
    """Return the ASGI application over some versions of the model."""
    workers = ThreadPoolExecutor(runtime.available_cores(), thread_name_prefix="model")

    async def in_worker(function: Callable[..., Any], *args: Any) -> Response:
        """Answer with the JSON that ``function`` returns, computed beside the event loop."""
        work = asyncio.get_running_loop().run_in_executor(workers, function, *args)
        try:
            content = await asyncio.wait_for(work, ANSWER_SECONDS)
        except TimeoutError:
            raise RequestError(504, f"no answer within {ANSWER_SECONDS:g} s") from None
        return Response(content, media_type="application/json")

    async def status(request: Request) -> Response:
        return await in_worker(_status, models, _version(request))

    async def metadata(request: Request) -> Response:
        return await in_worker(_metadata, models, _version(request))

    async def predict(request: Request) -> Response:
        version = _version(request)
        return await in_worker(_predict, models, version, await read_body(request))

    async def description(_: Request) -> Response:
        return await in_worker(_description, models)

    async def prepare(request: Request) -> Response:
        return await in_worker(_prepare, await read_body(request))

    mimetypes.add_type("text/javascript", ".js")  # which Windows may have set to another
    routes: list[BaseRoute] = []
    for path in ("/v1/models/{model}", "/v1/models/{model}/versions/{version}"):
        routes += [
            Route(f"{path}:predict", predict, methods=["POST"]),
            Route(f"{path}/metadata", metadata),
            Route(path, status),
        ]
    routes += [
        Route("/model.json", description),
        Route("/prepare", prepare, methods=["POST"]),
        Mount("/", StaticFiles(directory=WEB, html=True)),
    ]
    handlers: Mapping[Any, Any] = {RequestError: _refuse, HTTPException: _refuse_path, Exception: _fail}
    return Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(WithHeaders)])


def _status(models: Models, version: str | None) -> bytes:
    numbers = sorted(models.paths, reverse=True) if version is None else [models.get(version)[0]]
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return json.dumps({"model_version_status": [{"version": str(n), **available} for n in numbers]}).encode()


def _metadata(models: Models, version: str | None) -> bytes:
    number, model = models.get(version)
    return json.dumps(
        {
            "model_spec": {"name": MODEL_NAME, "signature_name": "", "version": str(number)},
            "metadata": {"signature_def": {"signature_def": model.signature_defs()}},
        }
    ).encode()


def _predict(models: Models, version: str | None, body: bytes) -> bytes:
    import tensorflow as tf

    _, model = models.get(version)
    request = rest.parse(body, model)
    try:
        return rest.answer(request, model(request.signature, **request.inputs))
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(400, first_line(error)) from None


def _description(models: Models) -> bytes:
    return json.dumps(models.get(None)[1].description).encode()


def _prepare(body: bytes) -> bytes:
    try:
        return json.dumps({"image": picture.read(io.BytesIO(body), "the picture").tolist()}).encode()
    except InputError as error:
        raise RequestError(400, str(error)) from None


def _version(request: Request) -> str | None:
    """Return the version that a path names, or None."""
    model = request.path_params["model"]
    if ":" in model:
        raise RequestError(400, f"Malformed request: {request.method} {request.url.path}")
    if model != MODEL_NAME:
        raise RequestError(404, f"Servable not found for request: Latest({model})")
    return request.path_params.get("version")


def _refuse(_: Request, error: RequestError) -> Response:
    # Where a body was not read to its end, the connection cannot be used again.
    headers = {"connection": "close"} if error.status in (408, 413) else {}
    return JSONResponse({"error": str(error)}, error.status, headers)


def _refuse_path(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": f"Malformed request: {request.method} {request.url.path}"}, error.status_code)


def _fail(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": first_line(error)}, 500)


def create_server(models: Models) -> uvicorn.Server:
    """Return the server; its ``run`` takes the sockets to listen on."""
    config = uvicorn.Config(
        create_app(models),
        http=Protocol,
        ws="none",
        log_config=None,  # Python's own logging prints warnings and errors
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any free one.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio switches Nagle's algorithm off, which costs 40 ms an answer, for sockets that name their protocol.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(MAX_CONNECTIONS)
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror} (give another --host or --port)") from None


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = cli.Parser(
        prog="python -m seqmnist_tf.serve",
        description="A local server with TF Serving's REST API for exported versions, and a page to draw on. It is a\n"
        "convenience for one machine; what it leaves out (gRPC, batching across requests,\n"
        "labels, hot swaps, metrics) is TF Serving's.",
    )
    parser.add_argument(
        "--model-dir", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help=f"versions (default: {DEFAULT_FOLDER})"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, from this machine only)"
    )
    parser.add_argument("--port", type=int, default=8501, help="port; 0 is any free one (default: 8501)")
    args = parser.parse_args(argv)
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port must be 0 to 65535 (got {args.port})")
    with listen(args.host, args.port) as server_socket:
        runtime.start_tensorflow()
        models = Models(args.model_dir)
        host, port = server_socket.getsockname()[:2]
        print(f"version {models.newest} at http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        # uvicorn raises the signal that ended it once more: SIGTERM is how a server ends, Ctrl-C an interruption.
        signal.signal(signal.SIGTERM, lambda *_: None)
        create_server(models).run(sockets=[server_socket])
    return cli.EXIT_DONE


if __name__ == "__main__":
    cli.run(main)
