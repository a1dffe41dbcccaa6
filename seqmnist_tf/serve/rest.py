"""The JSON of TF Serving's ``:predict``, from a request's body to an answer."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from starlette.exceptions import HTTPException

from ..config import NUM_TIMESTEPS
from .models import SavedModel
from .versions import DEFAULT_SIGNATURE

MAX_REQUEST_ROWS = 256  # export/config/batching.config gives TF Serving the same; a test compares the two
MAX_VALUES = MAX_REQUEST_ROWS * NUM_TIMESTEPS  # of an input: step may have many pixels in a row


@dataclass(frozen=True)
class PredictRequest:
    """A ``:predict`` request: arrays of the dtypes and shapes that its signature requires."""

    signature: str
    inputs: dict[str, np.ndarray]
    by_rows: bool  # they came row by row, as ``instances``; the answer has the same form


def parse_predict(body: bytes, model: SavedModel) -> PredictRequest:
    """Parse the body of a ``:predict`` request.

    Raises:
        HTTPException: 400, the body is not valid JSON, or does not fit the signature.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"JSON Parse error: {error}") from None
    if not isinstance(document, dict) or ("instances" in document) == ("inputs" in document):
        raise HTTPException(400, "the body must be a JSON object with either 'instances' or 'inputs'")
    signature = document.get("signature_name") or DEFAULT_SIGNATURE
    if signature not in list(model.signatures):
        raise HTTPException(400, f"Serving signature name: {signature!r} not found in {list(model.signatures)}")
    specs, by_rows = model.inputs(signature), "instances" in document
    try:
        if by_rows:
            rows = [_by_name(row, list(specs)) for row in document["instances"]]
            values = {name: [row[name] for row in rows] for name in specs}
        else:
            values = _by_name(document["inputs"], list(specs))
        inputs = {name: _to_array(values[name], spec) for name, spec in specs.items()}
        if len({len(array) for array in inputs.values()}) > 1:
            raise ValueError("inputs of different numbers of rows")
    except (KeyError, TypeError, ValueError) as error:
        wanted = ", ".join(f"{name} {spec.dtype.name} {spec.shape}" for name, spec in specs.items())
        raise HTTPException(400, f"{signature} needs {wanted} ({type(error).__name__}: {error})") from None
    if any(len(array) > MAX_REQUEST_ROWS or array.size > MAX_VALUES for array in inputs.values()):
        limit = f"at most {MAX_REQUEST_ROWS} rows, and {MAX_VALUES:,} values of an input"
        raise HTTPException(400, f"a request may have {limit}")
    return PredictRequest(signature, inputs, by_rows)


def predict_answer(request: PredictRequest, outputs: dict[str, np.ndarray]) -> bytes:
    """Return the body of the answer: ``predictions`` by rows, or ``outputs``; a single output stands without a name.

    Raises:
        HTTPException: 400, the outputs are not finite, which JSON cannot say.
    """
    values = {name: array.tolist() for name, array in outputs.items()}
    document: Any = values
    if len(values) == 1:
        (document,) = values.values()
    elif request.by_rows:
        document = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    try:
        return json.dumps({"predictions" if request.by_rows else "outputs": document}, allow_nan=False).encode()
    except ValueError:
        raise HTTPException(400, "the outputs for these inputs are not finite numbers") from None


def _by_name(value: Any, names: list[str]) -> dict[str, Any]:
    """Return the value of each input by name; the value of a single input may stand without its name."""
    if len(names) == 1 and not (isinstance(value, dict) and names[0] in value):
        return {names[0]: value}
    return {name: value[name] for name in names}


def _to_array(value: Any, spec: Any) -> np.ndarray:
    """Return nested lists as the array that a signature requires."""
    if spec.dtype == tf.string:
        # TF Serving takes base64 without padding, too.
        return np.array([base64.b64decode(content["b64"] + "==") for content in value], object)
    array = np.array(value)
    with np.errstate(over="ignore"):
        converted = array.astype(spec.dtype.as_numpy_dtype)
    if spec.dtype.is_integer and not (array.dtype.kind == "i" and (converted == array).all()):
        raise ValueError(f"integers from {spec.dtype.min} to {spec.dtype.max} are allowed")
    if not spec.shape.is_compatible_with(array.shape):
        raise ValueError(f"got the shape {array.shape}")
    return converted
