"""The paths of TF Serving's REST API: which model, version or label, and what is asked of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from google.protobuf import text_format
from starlette.requests import Request
from tensorflow_serving.config import model_server_config_pb2

from ..system import InputError, printable
from .http_limits import RequestError
from .versions import MODEL_NAME

# TF Serving's own patterns (http_rest_api_handler.cc), without :classify and :regress, which need other signatures.
_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
PREDICT_PATH = re.compile(rf"{_MODEL}:predict")
STATUS_PATH = re.compile(rf"{_MODEL}(?P<metadata>/metadata)?")


@dataclass(frozen=True)
class ModelRequest:
    """What a path asks for.

    Attributes:
        asked: predict, status or metadata.
        version: the version's number; None without one.
        label: the version's label; None without one.
    """

    asked: Literal["predict", "status", "metadata"]
    version: int | None
    label: str | None


def parse_path(request: Request) -> ModelRequest:
    """Return what a request under ``/v1/`` asks for. As for TF Serving, a query string is a part of the path.

    Raises:
        RequestError: 400, the path or the method is not of the API; 404, another model.
    """
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if path.rstrip("/") == "/v1/models":
        raise RequestError(400, "Missing model name in request.")
    pattern = {"POST": PREDICT_PATH, "GET": STATUS_PATH}.get(request.method)
    match = pattern.fullmatch(path) if pattern else None
    version = match["version"].lstrip("0") or "0" if match and match["version"] else None
    if match is None or (version and (len(version) > 19 or int(version) >= 2**63)):
        raise RequestError(400, f"Malformed request: {printable(request.method, 20)} {printable(path, 200)}")
    asked: Literal["predict", "status", "metadata"] = "predict"
    if request.method == "GET":
        asked = "metadata" if match["metadata"] else "status"
    if match["model"] != MODEL_NAME:
        name = printable(match["model"], 80)
        if asked == "status":
            raise RequestError(404, f"Could not find any versions of model {name}")
        which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise RequestError(404, f"Servable not found for request: {which}")
    return ModelRequest(asked, int(version) if version else None, match["label"])


def read_labels(folder: Path) -> dict[str, int]:
    """Return the versions by label that TF Serving's configuration beside a folder of versions names.

    Args:
        folder: the folder of the versions; the configuration is ``../config/models.config``, if there is one.

    Raises:
        InputError: the configuration cannot be read.
    """
    path = folder.resolve().parent / "config" / "models.config"
    if not path.is_file():
        return {}
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise InputError(f"cannot read {path}: {printable(str(error))}") from None
    models = [model for model in config.model_config_list.config if model.name == MODEL_NAME]
    return {label: number for model in models for label, number in model.version_labels.items()}
