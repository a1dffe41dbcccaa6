"""What is not in the format of a record, or not fit to be shown. Each function returns a list of problems."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from ..config import LAYER_FILE

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


def text_problems(name: str, document: Any) -> list[str]:
    """Return the strings of a document, keys and values, that could break out of a table or hide in a terminal."""
    for text in _strings(document):
        if bad := [char for char in text if char in REFUSED_CHARACTERS or not char.isprintable()]:
            return [f"{name} must have no control characters, |, < or ` in its text (got {bad[0]!a} in {text[:40]!a})"]
        if len(text) > MAX_TEXT:
            return [f"{name} must have no text of more than {MAX_TEXT:,} characters (got {len(text):,})"]
    return []


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


def environment_problems(environment: dict[str, Any], without: Collection[str] = ()) -> list[str]:
    """Return the entries of ``environment.json``, and of its resumed parts, that are missing or of another type.

    ``without`` names entries that need not be there.
    """
    problems = []
    resumed = environment.get("resumed")
    for part in (environment, *(resumed if isinstance(resumed, list) else [])):
        if not isinstance(part, dict):
            return ["resumed in environment.json must be a list of objects"]
        own = () if part is environment else ("preset", "config_id", "resumed")
        for key, kind in SHOWN_TYPES.items():
            value = part.get(key)
            if key not in own and key not in without and (not isinstance(value, kind) or isinstance(value, bool)):
                problems.append(f"{key} is missing in environment.json or of another type (got {type(value).__name__})")
        started = part.get("started")
        if isinstance(started, str) and not re.match("[0-9]{4}", started):
            problems.append(f"started in environment.json must begin with a year (got {started[:40]!a})")
        first_step = part.get("first_step", 0)
        if type(first_step) is not int or first_step < 0:
            problems.append(f"first_step in environment.json must be an integer >= 0 (got {str(first_step)[:40]!a})")
        for key, name in SHOWN_TEXTS.items():
            if isinstance(values := part.get(key), dict) and not isinstance(values.get(name), str):
                problems.append(f"{key} in environment.json must have {name}, a text (got {values.get(name)!a})")
    return problems


def layer_problems(content: bytes, name: str = LAYER_FILE) -> list[str]:
    """Return why the text of a file of a layer cannot be shown in a page."""
    if len(content) > MAX_LAYER_BYTES:
        return [f"{name} must have at most {MAX_LAYER_BYTES:,} bytes"]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return [f"{name} must be UTF-8 text"]
    if bad := [char for char in text if char not in "\n\r\t" and not char.isprintable()]:
        return [f"{name} must have no control characters (got {bad[0]!a})"]
    return [f"{name} must not have a comment of HTML (<!--)"] if "<!--" in text else []
