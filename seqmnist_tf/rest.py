"""TF Serving's JSON: a request's body to arrays, a model's outputs to an answer."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .saved_model import DEFAULT_SIGNATURE, SavedModel

MAX_ROWS = 256
MAX_UNROLLED = 32 * 784  # pixels after which an answer may give probabilities, over all rows


class RequestError(Exception):
    """A request that cannot be answered: the HTTP status, and the text that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A ``:predict`` request.

    Attributes:
        signature: the name of a signature of the model.
        inputs: arrays of the types and shapes that the signature asks for.
        by_rows: it came as ``instances``, row by row, and is answered so.
    """

    signature: str
    inputs: dict[str, np.ndarray]
    by_rows: bool


def parse(body: bytes, model: SavedModel) -> Request:
    """Read the body of a ``:predict`` request.

    Raises:
        RequestError: 400, it is no JSON, or not what the signature asks for.
    """
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise RequestError(400, f"JSON Parse error: {reason}") from None
    if type(document) is not dict:
        _refuse("the body must be a JSON object", document)
    signature = document.get("signature_name", DEFAULT_SIGNATURE) or DEFAULT_SIGNATURE
    if type(signature) is not str or signature not in model.signatures:
        known = ", ".join(model.signatures)
        raise RequestError(400, f"Serving signature name: {json.dumps(signature)[:80]} not found (known: {known})")
    given = [key for key in ("instances", "inputs") if key in document]
    if len(given) != 1:
        raise RequestError(400, f"the body must have one of 'instances' and 'inputs' (it has {len(given)} of them)")
    specs = model.inputs(signature)
    columns = _columns if given == ["inputs"] else _columns_of_instances
    values = columns(document[given[0]], list(specs))
    arrays = {name: _to_array(name, values[name], specs[name]) for name in specs}
    _check_sizes(arrays, unrolled=any(len(spec.shape) == 3 for spec in model.outputs(signature).values()))
    return Request(signature, arrays, given == ["instances"])


def answer(request: Request, outputs: dict[str, np.ndarray]) -> bytes:
    """Return the body of the answer: ``predictions`` by rows, or ``outputs``; a single output has no name there."""
    values = {name: array.tolist() for name, array in outputs.items()}
    if len(values) == 1:
        (document,) = values.values()
    elif request.by_rows:
        document = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    else:
        document = values
    return json.dumps({"predictions" if request.by_rows else "outputs": document}).encode()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refuse(text: str, value: Any) -> NoReturn:
    shown = json.dumps(value)
    raise RequestError(400, f"{text} (got {shown if len(shown) <= 80 else shown[:77] + '...'})")


def _columns(value: Any, names: list[str]) -> dict[str, Any]:
    """Return the value of each input in ``inputs``; the value of a single input may stand without its name."""
    if len(names) == 1 and not (type(value) is dict and names[0] in value):
        return {names[0]: value}
    if type(value) is not dict or set(value) != set(names):
        _refuse(f"inputs must be an object of {', '.join(names)}", value)
    return value


def _columns_of_instances(instances: Any, names: list[str]) -> dict[str, Any]:
    if type(instances) is not list or not instances:
        _refuse("instances must be a list of at least one", instances)
    rows = [_columns(row, names) for row in instances]
    return {name: [row[name] for row in rows] for name in names}


def _to_array(name: str, value: Any, spec: Any) -> np.ndarray:
    """Return nested lists as the array that a signature asks for; every axis has at least one element."""
    shape: list[int] = []
    wanted = (
        f"{name} must be {spec.dtype.name} of shape ({', '.join('any' if n is None else str(n) for n in spec.shape)})"
    )
    elements = [value]
    for size in spec.shape:
        if any(type(element) is not list for element in elements):
            _refuse(wanted, next(element for element in elements if type(element) is not list))
        lengths = set(map(len, elements))
        if len(lengths) > 1 or 0 in lengths or size not in (None, *lengths):
            raise RequestError(400, f"{wanted} (got lists of {sorted(lengths)[:8]} on axis {len(shape)})")
        shape += lengths
        elements = list(itertools.chain.from_iterable(elements))
    convert = {"string": _strings, "uint8": _bytes}.get(spec.dtype.name, _floats)
    return convert(wanted, elements).reshape(shape)


def _bytes(wanted: str, elements: list[Any]) -> np.ndarray:
    if set(map(type, elements)) != {int} or min(elements) < 0 or max(elements) > 255:
        _refuse(f"{wanted}, 0 to 255", next(e for e in elements if type(e) is not int or not 0 <= e <= 255))
    return np.array(elements, np.uint8)


def _floats(wanted: str, elements: list[Any]) -> np.ndarray:
    if not set(map(type, elements)) <= {int, float}:
        _refuse(wanted, next(e for e in elements if type(e) not in (int, float)))
    try:
        with np.errstate(over="ignore"):
            array = np.array(elements, np.float64).astype(np.float32)
    except OverflowError:
        array = np.array([np.inf])
    if not np.isfinite(array).all():
        raise RequestError(400, f"{wanted} (got a number beyond float32)")
    return array


def _strings(wanted: str, elements: list[Any]) -> np.ndarray:
    decoded: list[bytes] = []
    for element in elements:
        if type(element) is dict and set(element) == {"b64"} and type(element["b64"]) is str:
            try:
                decoded.append(base64.b64decode(element["b64"], validate=True))
            except (binascii.Error, ValueError):
                _refuse('a "b64" must be base64', element["b64"])
        else:
            _refuse(f'{wanted}, each {{"b64": "..."}}', element)
    return np.array(decoded, object)


def _check_sizes(arrays: dict[str, np.ndarray], unrolled: bool) -> None:
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise RequestError(400, f"inputs must have as many rows as one another (got {json.dumps(rows)})")
    n = max(rows.values())
    if n > MAX_ROWS:
        raise RequestError(400, f"a request may have at most {MAX_ROWS} rows (got {n})")
    pixels = max(array.size for array in arrays.values())
    if unrolled and pixels > MAX_UNROLLED:
        raise RequestError(
            400, f"a request for probabilities after each pixel may have at most {MAX_UNROLLED} (got {pixels})"
        )
