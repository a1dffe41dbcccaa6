"""``record.json``: the schema of a record, and what of it was trained anew where."""

from __future__ import annotations

import decimal
import re
from pathlib import Path
from typing import Any

from ..system import InputError, json_bytes
from .layout import REPLAYS_FILE
from .wellformed import read_strict_object, text_problems

SCHEMA = 1  # of records; records of version 0.1.0 have none
REPLAY_TOLERANCE = 1e-5  # relative; another processor or kernel gave at most 2.3e-7 in the first 20 batches
ENTRY_TYPES: dict[str, type | tuple[type, ...]] = {
    "date": str,
    "processor": str,
    "kernel": str,
    "versions": dict,
    "batches": int,
    "largest_difference": (int, float),
}


def read_replays(folder: Path) -> list[dict[str, Any]]:
    """Return the replays of a record, in the order of their dates; an empty list where it has none.

    Each has ``date``, ``processor``, ``kernel`` (whose name ends in the instruction set), ``versions``, ``batches``,
    and ``largest_difference`` of a loss, relative to the recorded one: 0 is bit for bit.

    Raises:
        InputError: ``record.json`` cannot be read, or has another schema.
    """
    path = folder / REPLAYS_FILE
    if not path.exists():
        return []
    document = read_strict_object(path)
    if document.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {document.get('schema')!a} (this version reads {SCHEMA})")
    entries = document.get("replayed")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: replayed must be a list of objects")
    for entry in entries:
        if problems := _entry_problems(entry):
            raise InputError(f"{path}: {problems[0]}")
    return sorted(entries, key=lambda entry: entry["date"])


def record_json(entries: list[dict[str, Any]]) -> bytes:
    """Return the content of ``record.json``: the last replay for each machine, kernel and number of batches."""
    latest = {(entry["processor"], entry["kernel"], entry["batches"]): entry for entry in entries}
    document = {"schema": SCHEMA, "replayed": list(latest.values())}
    return json_bytes(document)


def agreement(largest: float) -> str:
    """Return in words how well losses agree, from their largest relative difference; its first digit is rounded up.

    Example:
        >>> agreement(0.0), agreement(2.07e-7), agreement(9.5e-8)
        ('bit for bit', 'within 3e-7', 'within 1e-7')
    """
    if not largest:
        return "bit for bit"
    return f"within {decimal.Context(prec=1, rounding=decimal.ROUND_UP).create_decimal(largest):.0e}"


def _entry_problems(entry: dict[str, Any]) -> list[str]:
    for key, kind in ENTRY_TYPES.items():
        value = entry.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            return [f"{key} of a replay is missing or of another type"]
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", entry["date"][:10]):
        return [f"date of a replay must be ISO 8601 (got {entry['date'][:40]!a})"]
    if entry["batches"] < 1 or not 0 <= entry["largest_difference"] <= REPLAY_TOLERANCE:
        return [f"batches of a replay must be at least 1, and largest_difference 0 to {REPLAY_TOLERANCE:g}"]
    return text_problems(REPLAYS_FILE, entry)
