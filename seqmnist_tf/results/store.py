"""Writing into the results folder, and ``SHA256SUMS``, the hash of each of its files in the format of ``sha256sum -c``.

One process writes at a time. What a killed process left is not listed, and the same command writes it again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..system import InputError, write_atomically
from ..train import PREDICTIONS_FILE, lock_folder
from .records import REPLAYS_FILE, SEARCHES, TRIALS

MANIFEST_FILE = "SHA256SUMS"
NOT_LISTED = re.compile(rf"{MANIFEST_FILE}|([^/]+/)?README\.md|(.*/)?\..*")  # pages are compared with the records
RECORD = re.compile(rf"({TRIALS}/)?[^/]+/seed[^/]*/|{SEARCHES}/.*")  # the folder of a record's file, or a search
WRITER_SECONDS = 120.0


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a results folder, by its path in the folder; empty without a manifest."""
    path = folder / MANIFEST_FILE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (.+)$", text, re.MULTILINE)}


def write_manifest(folder: Path, hashes: dict[str, str]) -> None:
    """Write a manifest of hashes, by the path of their file in the folder."""
    text = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    write_atomically(folder / MANIFEST_FILE, text.encode())


def updated_manifest(folder: Path) -> dict[str, str]:
    """Return the manifest with the present hashes of benchmarks and pictures, and without removed records.

    The hashes of records stay.
    """
    fresh = {name: file_hash(path) for name, path in _listed_files(folder).items() if not RECORD.match(name)}
    return {**_of_records(folder), **fresh}


def record_problems(folder: Path, listed: dict[str, str]) -> list[str]:
    """Return the files of a results folder that are missing, not listed or changed, one line each."""
    files, problems = _listed_files(folder), []
    for name in sorted({*listed, *files}):
        if name not in files:
            problems.append(f"{folder / name} is missing")
        elif name not in listed:
            problems.append(f"{folder / name} is not listed in {MANIFEST_FILE}")
        elif file_hash(files[name]) != listed[name]:
            problems.append(f"{folder / name} does not match its SHA-256 in {MANIFEST_FILE}")
    return problems


def _of_records(folder: Path) -> dict[str, str]:
    """Return the part of the manifest about records and searches, without those that were removed as a whole."""
    listed = read_manifest(folder).items()
    return {name: h for name, h in listed if (place := RECORD.match(name)) and (folder / place[0]).exists()}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def records_digest(folder: Path, prefixes: tuple[str, ...]) -> str:
    """Return 16 hexadecimal digits that identify what a picture shows of the records.

    It shows the files whose paths begin with one of the ``prefixes``, but for predictions and replays.
    """
    shown = [(name, h) for name, h in sorted(_of_records(folder).items()) if name.startswith(prefixes)]
    lines = [f"{h} {name}" for name, h in shown if not name.endswith((f"/{PREDICTIONS_FILE}", f"/{REPLAYS_FILE}"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _listed_files(folder: Path) -> dict[str, Path]:
    """Return the files that the manifest must list, by their path in the folder."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in files.items() if not NOT_LISTED.fullmatch(name)}


def locked(folder: Path) -> AbstractContextManager[Any]:
    """Return a context in which no other process writes into a results folder."""
    return lock_folder(folder, f"results folder {folder}", WRITER_SECONDS)


def require_new(folder: Path, path: Path) -> None:
    """Raise InputError where the manifest of a results folder has ``path``, or files in it."""
    place = path.relative_to(folder).as_posix()
    if any(f"{name}/".startswith(f"{place}/") for name in read_manifest(folder)):
        raise InputError(f"{path} is already published")


def set_files(folder: Path, path: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a record, contents by name, to ``path`` in a results folder, and list them; call it locked."""
    hashes = read_manifest(folder)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path / name, content)
        hashes[(path / name).relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    write_manifest(folder, hashes)
