"""Servers' answers: only what the client asked for goes on, anything else is one line."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..config import NUM_CLASSES
from ..system import RunError, printable

SURE = 0.8  # probability of an answer that is given without a doubt; the page's script has the same number
ROUNDING = 1e-3  # by which a server's probabilities may leave 0 to 1, and their sum 1


@dataclass(frozen=True)
class Classification:
    """The model's answer for one image: the most probable class, 0 to 9, and the probability of each class."""

    class_id: int
    probabilities: list[float]


def verdict(digits: int, answer: Classification | None) -> str:
    """Return ``no digit``, ``several digits``, ``unsure`` or ``digit``: how far an answer can be relied on.

    Args:
        digits: number of digits that were found in the picture.
        answer: the model's answer for the largest of them; None where there is none.

    Example::

        verdict(1, Classification(7, [0.0] * 7 + [0.6, 0.4, 0.0]))  # 'unsure': 0.6 is less than SURE
    """
    if answer is None:
        return "no digit"
    if digits > 1:
        return "several digits"
    return "digit" if answer.probabilities[answer.class_id] >= SURE else "unsure"


def parse_answer(server: str, status: int, body: bytes, rows: int) -> list[Classification]:
    """Return the classifications in the body of a REST answer.

    Args:
        server: the server's address, for errors.
        status: the answer's HTTP status.
        body: the answer's body.
        rows: number of images that were sent.

    Raises:
        RunError: the status is not 200, or the body is not an answer for so many images; the message quotes it.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if status == 200 and isinstance(document, dict) and "outputs" in document:
        return check_outputs(server, document["outputs"], rows)
    error = document.get("error") if isinstance(document, dict) else None
    text = error if isinstance(error, str) and error.strip() else body[:2000].decode("utf-8", "replace")
    quote = printable(" ".join(text.split()), 200)
    raise RunError(f"{server} answered {status}: {quote or 'an empty answer'}")


def check_outputs(server: str, outputs: Any, rows: int) -> list[Classification]:
    """Return the classifications in the outputs of ``serving_default``.

    Args:
        server: the server's address, for errors.
        outputs: ``class_id`` and ``probabilities`` by name, as lists or arrays.
        rows: number of images that were sent.

    Raises:
        RunError: an output is missing, or has another number of rows, another type, or another range.
    """
    missing = {"class_id", "probabilities"} - set(outputs if isinstance(outputs, dict) else ())
    if missing:
        _refuse(server, f"{' and '.join(sorted(missing))} missing")
    class_ids = _numbers(server, "class_id", outputs["class_id"], (rows,), int)
    probabilities = _numbers(server, "probabilities", outputs["probabilities"], (rows, NUM_CLASSES), float)
    if not ((class_ids >= 0) & (class_ids < NUM_CLASSES)).all():
        _refuse(server, f"class_id must be 0 to {NUM_CLASSES - 1}")
    in_range = (probabilities >= -ROUNDING) & (probabilities <= 1 + ROUNDING)  # NaN is not in range
    if not (in_range.all() and (abs(probabilities.sum(axis=1) - 1) <= ROUNDING).all()):
        _refuse(server, "probabilities must be numbers of 0 to 1 whose sum is 1")
    return [Classification(*row) for row in zip(class_ids.tolist(), probabilities.tolist(), strict=True)]


def _numbers(server: str, name: str, value: Any, shape: tuple[int, ...], kind: type) -> np.ndarray:
    """Return an output as an array, int64 or float64."""
    kinds, dtype = ("iu", np.int64) if kind is int else ("fiu", np.float64)
    array = value if isinstance(value, np.ndarray) else _from_lists(value, shape)
    if array.dtype.kind not in kinds or array.shape != shape:
        _refuse(server, f"{name} must be {'integers' if kind is int else 'numbers'} of shape {shape}")
    return array.astype(dtype)


def _from_lists(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return nested lists of numbers as an array, or one without numbers where they are something else.

    They are checked first: an array of texts takes as much memory for each text as for the longest.
    """
    elements = [value]
    for size in shape:
        if any(type(element) is not list or len(element) != size for element in elements):
            return np.array(None)
        elements = list(itertools.chain.from_iterable(elements))
    if not set(map(type, elements)) <= {int, float}:
        return np.array(None)
    return np.array(elements).reshape(shape)


def _refuse(server: str, problem: str) -> NoReturn:
    raise RunError(f"the answer of {server} is not the one of a digit classifier: {problem}")
