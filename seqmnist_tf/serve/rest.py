"""TF Serving's REST: what a path asks for, and the JSON of ``:predict``, from a request's body to an answer."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from starlette.requests import Request

from ..system import printable
from .guard import MAX_REQUEST_ROWS, MAX_UNROLLED_PIXELS, RequestError
from .models import SavedModel
from .versions import DEFAULT_SIGNATURE, MODEL_NAME

# TF Serving's own patterns (http_rest_api_handler.cc), without :classify and :regress, which need other signatures.
_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
PREDICT_PATH = re.compile(rf"{_MODEL}:predict")
STATUS_PATH = re.compile(rf"{_MODEL}(?P<metadata>/metadata)?")


def parse_path(request: Request) -> tuple[str, int | None, str | None]:
    """Return what a request under ``/v1/`` asks for (predict, status or metadata), and the version's number or label.

    Without both, it is the newest version. As for TF Serving, a query string is a part of the path.

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
    asked = "predict" if request.method == "POST" else "metadata" if match["metadata"] else "status"
    if match["model"] != MODEL_NAME:
        name = printable(match["model"], 80)
        if asked == "status":
            raise RequestError(404, f"Could not find any versions of model {name}")
        which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise RequestError(404, f"Servable not found for request: {which}")
    return asked, int(version) if version else None, match["label"]


@dataclass(frozen=True)
class PredictRequest:
    """A ``:predict`` request: arrays of the dtypes and shapes that its signature requires."""

    signature: str
    inputs: dict[str, np.ndarray]
    by_rows: bool  # they came row by row, as ``instances``; the answer has the same form


def parse_predict(body: bytes, model: SavedModel) -> PredictRequest:
    """Parse the body of a ``:predict`` request.

    Raises:
        RequestError: 400, the body is not valid JSON, or does not fit the signature.
    """
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise RequestError(400, f"JSON Parse error: {reason}") from None
    if type(document) is not dict:
        _refuse("the body must be a JSON object", document)
    signature = document.get("signature_name", DEFAULT_SIGNATURE)
    if signature == "":
        signature = DEFAULT_SIGNATURE
    if type(signature) is not str or signature not in model.signatures:
        known = ", ".join(model.signatures)
        raise RequestError(400, f"Serving signature name: {json.dumps(signature)[:80]} not found (known: {known})")
    by_rows = "instances" in document
    if by_rows == ("inputs" in document):
        raise RequestError(
            400, f"the body must have either 'instances' or 'inputs' (got {'both' if by_rows else 'neither'})"
        )
    specs = model.inputs(signature)
    if by_rows:
        values = _columns_of_instances(document["instances"], list(specs))
    else:
        values = _columns(document["inputs"], list(specs))
    arrays = {name: _to_array(name, values[name], specs[name]) for name in specs}
    _check_sizes(arrays, unrolled=any(len(spec.shape) == 3 for spec in model.outputs(signature).values()))
    return PredictRequest(signature, arrays, by_rows)


def predict_answer(request: PredictRequest, outputs: dict[str, np.ndarray]) -> bytes:
    """Return the body of the answer: ``predictions`` by rows, or ``outputs``; a single output stands without a name.

    Raises:
        RequestError: 400, the outputs are not finite, which JSON cannot say.
    """
    values = {name: array.tolist() for name, array in outputs.items()}
    if len(values) == 1:
        (document,) = values.values()
    elif request.by_rows:
        document = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    else:
        document = values
    try:
        return json.dumps({"predictions" if request.by_rows else "outputs": document}, allow_nan=False).encode()
    except ValueError:
        raise RequestError(400, "the outputs for these inputs are not finite numbers") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _refuse(text: str, value: Any) -> NoReturn:
    try:
        shown = json.dumps(value)
    except RecursionError:  # it was just not too deep to be read
        shown = "a value that is nested too deep"
    raise RequestError(400, f"{text} (got {shown if len(shown) <= 80 else shown[:77] + '...'})")


def _columns(value: Any, names: list[str]) -> dict[str, Any]:
    """Return the value of each input by name; the value of a single input may stand without its name."""
    if len(names) == 1 and not (type(value) is dict and names[0] in value):
        return {names[0]: value}
    if type(value) is not dict or set(value) != set(names):
        _refuse(f"inputs must be an object of {', '.join(names)}", value)
    return value


def _columns_of_instances(instances: Any, names: list[str]) -> dict[str, Any]:
    """Return the values of each input over all rows, by name."""
    if type(instances) is not list or not instances:
        _refuse("instances must be a list of at least one element", instances)
    rows = [_columns(row, names) for row in instances]
    return {name: [row[name] for row in rows] for name in names}


def _to_array(name: str, value: Any, spec: Any) -> np.ndarray:
    """Return nested lists as the array that a signature requires; no axis may be empty."""
    shape: list[int] = []
    sizes = ", ".join("any" if size is None else str(size) for size in spec.shape)
    rule = f"{name} must be {spec.dtype.name} of shape ({sizes})"
    elements = [value]
    for size in spec.shape:
        if any(type(element) is not list for element in elements):
            _refuse(rule, next(element for element in elements if type(element) is not list))
        lengths = set(map(len, elements))
        if len(lengths) > 1 or 0 in lengths or size not in (None, *lengths):
            raise RequestError(400, f"{rule} (got lists of {sorted(lengths)[:8]} on axis {len(shape)})")
        shape += lengths
        elements = list(itertools.chain.from_iterable(elements))
    convert = {"string": _strings, "uint8": _bytes}.get(spec.dtype.name, _floats)
    return convert(rule, elements).reshape(shape)


def _bytes(rule: str, elements: list[Any]) -> np.ndarray:
    if set(map(type, elements)) != {int} or min(elements) < 0 or max(elements) > 255:
        _refuse(f"{rule}, 0 to 255", next(e for e in elements if type(e) is not int or not 0 <= e <= 255))
    return np.array(elements, np.uint8)


def _floats(rule: str, elements: list[Any]) -> np.ndarray:
    if not set(map(type, elements)) <= {int, float}:
        _refuse(rule, next(e for e in elements if type(e) not in (int, float)))
    try:
        with np.errstate(over="ignore"):
            array = np.array(elements, np.float64).astype(np.float32)
    except OverflowError:
        array = np.array([np.inf])
    if not np.isfinite(array).all():
        raise RequestError(400, f"{rule} (got a number outside float32's range)")
    return array


def _strings(rule: str, elements: list[Any]) -> np.ndarray:
    decoded: list[bytes] = []
    for element in elements:
        if type(element) is dict and set(element) == {"b64"} and type(element["b64"]) is str:
            try:
                text = element["b64"].rstrip("=")  # TF Serving takes it without padding, too
                decoded.append(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
            except (binascii.Error, ValueError):
                _refuse('"b64" must be base64 text', element["b64"])
        else:
            _refuse(f'{rule}, each {{"b64": "..."}}', element)
    return np.array(decoded, object)


def _check_sizes(arrays: dict[str, np.ndarray], unrolled: bool) -> None:
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise RequestError(400, f"all inputs must have the same number of rows (got {json.dumps(rows)})")
    n = max(rows.values())
    if n > MAX_REQUEST_ROWS:
        raise RequestError(400, f"a request may have at most {MAX_REQUEST_ROWS} rows (got {n})")
    pixels = max((array.size for array in arrays.values() if array.ndim == 3), default=0)  # h and c are none
    if unrolled and pixels > MAX_UNROLLED_PIXELS:
        limit = f"at most {MAX_UNROLLED_PIXELS:,} pixels in all rows"
        raise RequestError(400, f"a request for probabilities after each pixel may have {limit} (got {pixels:,})")
