"""Files of strangers: strict JSON, finite numbers, and text that may stand in a table.

Each ``read_`` function raises InputError, whatever the file holds. Each ``_problems`` function returns one line each.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ..config import unique_keys
from ..system import InputError

MAX_BYTES = 200_000_000  # of one file
MAX_TEXT = 2_000  # characters of one string
REFUSED_CHARACTERS = "|<`"  # they end a cell of a table, or begin a comment or code in it
MAX_LAYER_BYTES = 100_000

# The types of what documents show of environment.json.
SHOWN_TYPES: dict[str, type | tuple[type, ...]] = {
    "started": str,
    "command": str,
    "git": dict,
    "python": str,
    "versions": dict,
    "machine": dict,
    "device": str,
    "threads": int,
    "onednn": str,
    "kernel": str,
    "preset": (str, type(None)),
    "config_id": str,
    "resumed": list,
}
SHOWN_TEXTS = {"machine": "processor", "versions": "seqmnist_tf"}  # entries of two of them


def read_strict_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, which has no key twice and no NaN."""
    document = _parse(path, _read_text(path))
    if not isinstance(document, dict):
        raise InputError(f"cannot read {path}: it must be a JSON object (got {type(document).__name__})")
    return document


def read_json_rows(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, one a line."""
    rows = [_parse(path, line) for line in _read_text(path).splitlines()]
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(f"cannot read {path}: each line must be a JSON object")
    return rows


def text_problems(name: str, document: Any) -> list[str]:
    """Return the strings of a document, keys and values, that could break out of a table or hide in a terminal."""
    for text in _strings(document):
        if bad := [char for char in text if char in REFUSED_CHARACTERS or not char.isprintable()]:
            return [f"{name} must have no control characters, |, < or ` in its text (got {bad[0]!a} in {text[:40]!a})"]
        if len(text) > MAX_TEXT:
            return [f"{name} must have no text of more than {MAX_TEXT:,} characters (got {len(text):,})"]
    return []


def environment_problems(environment: dict[str, Any]) -> list[str]:
    """Return the entries of ``environment.json``, and of its resumed parts, that are missing or of another type."""
    problems = []
    resumed = environment.get("resumed")
    for part in (environment, *(resumed if isinstance(resumed, list) else [])):
        if not isinstance(part, dict):
            return ["resumed in environment.json must be a list of objects"]
        own = () if part is environment else ("preset", "config_id", "resumed")
        for key, kind in SHOWN_TYPES.items():
            value = part.get(key)
            if key not in own and (not isinstance(value, kind) or isinstance(value, bool)):
                problems.append(f"{key} is missing in environment.json or of another type (got {type(value).__name__})")
        started = part.get("started")
        if isinstance(started, str) and not re.match("[0-9]{4}", started):
            problems.append(f"started in environment.json must begin with a year (got {started[:40]!a})")
        first_step = part.get("first_step", 0)
        if type(first_step) is not int or first_step < 0:
            problems.append(f"first_step in environment.json must be an integer >= 0 (got {str(first_step)[:40]!a})")
        for key in ("machine", "versions"):
            values = part.get(key)
            if isinstance(values, dict) and any(isinstance(value, dict | list) for value in values.values()):
                problems.append(f"{key} in environment.json must have plain values")
        for key, name in SHOWN_TEXTS.items():
            values = part.get(key)
            if isinstance(values, dict) and not isinstance(values.get(name), str):
                problems.append(f"{key} in environment.json must have {name}, a text (got {values.get(name)!a})")
    return problems


def layer_problems(path: Path) -> list[str]:
    """Return why the text of ``layer.py`` cannot be shown in a page; an empty list where there is no such file."""
    if not path.exists():
        return []
    if path.stat().st_size > MAX_LAYER_BYTES:
        return [f"{path.name} must have at most {MAX_LAYER_BYTES:,} bytes"]
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return [f"{path.name} must be UTF-8 text"]
    if bad := [char for char in text if char not in "\n\r\t" and not char.isprintable()]:
        return [f"{path.name} must have no control characters (got {bad[0]!a})"]
    return [f"{path.name} must not have a comment of HTML (<!--)"] if "<!--" in text else []


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"cannot read {path}: it has more than {MAX_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None


def _parse(path: Path, text: str) -> Any:
    try:
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=unique_keys)
        _require_finite(document)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"cannot read {path}: {reason}") from None
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _require_finite(document: Any) -> None:
    if isinstance(document, float) and not math.isfinite(document):
        raise ValueError(f"numbers must be finite (got {document})")
    for value in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        _require_finite(value)


def _strings(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from _strings(value)
    elif isinstance(document, list):
        for value in document:
            yield from _strings(value)
