"""``SHA256SUMS``: the hash of every file of the results folder, in the format of ``sha256sum -c``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ..system import InputError, write_atomically
from ..train import PREDICTIONS_FILE
from .layout import REPLAYS_FILE, TRIALS, is_hidden

MANIFEST_FILE = "SHA256SUMS"
NOT_LISTED = re.compile(rf"{MANIFEST_FILE}|([^/]+/)?README\.md")  # pages are compared with the records instead
RECORD_FILE = re.compile(rf"({TRIALS}/)?[^/]+/seed[^/]*/")  # how the path of a record's file begins
ANY_FILE = re.compile("")


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a results folder, by its path in the folder; empty without a manifest.

    Raises:
        InputError: the manifest cannot be read.
    """
    try:
        lines = (folder / MANIFEST_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {folder / MANIFEST_FILE}: {error}") from None
    pairs = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
    if not all(pairs):
        raise InputError(f"each line of {folder / MANIFEST_FILE} must be a SHA-256, two spaces and a path")
    return {pair[2]: pair[1] for pair in pairs if pair}


def write_manifest(folder: Path, hashes: dict[str, str]) -> None:
    """Write a manifest; ``hashes`` has the SHA-256 of each file by its path in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    write_atomically(folder / MANIFEST_FILE, text.encode())


def update_manifest(folder: Path) -> None:
    """Compute the hashes of benchmarks, literature and pictures again; the hashes of records stay."""
    kept = {name: digest for name, digest in read_manifest(folder).items() if RECORD_FILE.match(name)}
    fresh = {name: file_hash(path) for name, path in _listed_files(folder).items() if not RECORD_FILE.match(name)}
    write_manifest(folder, {**kept, **fresh})


def manifest_problems(folder: Path, *, records_only: bool = False) -> list[str]:
    """Return the files of a results folder that are missing, not listed or changed.

    Args:
        folder: the results folder.
        records_only: ignore the files that :func:`update_manifest` lists.

    Raises:
        InputError: the manifest cannot be read.
    """
    pattern = RECORD_FILE if records_only else ANY_FILE
    listed = {name: digest for name, digest in read_manifest(folder).items() if pattern.match(name)}
    files = {name: path for name, path in _listed_files(folder).items() if pattern.match(name)}
    return [
        *(f"{folder / name} is missing" for name in sorted(listed.keys() - files.keys())),
        *(f"{folder / name} is not listed in {MANIFEST_FILE}" for name in sorted(files.keys() - listed.keys())),
        *(
            f"{folder / name} does not match its SHA-256 in {MANIFEST_FILE}"
            for name in sorted(files.keys() & listed.keys())
            if file_hash(files[name]) != listed[name]
        ),
    ]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def records_digest(folder: Path, prefixes: tuple[str, ...]) -> str:
    """Return 16 hexadecimal digits that identify what a picture shows of the records.

    Args:
        folder: the results folder.
        prefixes: beginnings of the paths of the files that it shows; predictions and replays do not count.
    """
    listed = sorted(read_manifest(folder).items())
    not_shown = (PREDICTIONS_FILE, REPLAYS_FILE)
    shown = [(name, h) for name, h in listed if name.rpartition("/")[2] not in not_shown]
    lines = [f"{h} {name}" for name, h in shown if name.startswith(prefixes)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _listed_files(folder: Path) -> dict[str, Path]:
    """Return the files that the manifest must list, by their path in the folder."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    names = {name.as_posix(): path for name, path in files.items() if not is_hidden(name)}
    return {name: path for name, path in names.items() if not NOT_LISTED.fullmatch(name)}
