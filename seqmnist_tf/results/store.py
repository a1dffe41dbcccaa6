"""Writing into the results folder, and ``SHA256SUMS``, the hash of each of its files in the format of ``sha256sum -c``.

One process writes at a time, and the folder is whole after a kill at any moment: a record is filled under a hidden
name, renamed, and then listed in the manifest. Where a process is killed in between, the same command goes on from
there.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..system import InputError, folder_atomically, unfinished_file, unfinished_folders, unwritable, write_atomically
from ..train import PREDICTIONS_FILE, lock_folder
from .records import RECORD_FOLDERS, REPLAYS_FILE, SEARCHES, TRIAL_FOLDERS, TRIALS, is_hidden

MANIFEST_FILE = "SHA256SUMS"
NOT_LISTED = re.compile(rf"{MANIFEST_FILE}|([^/]+/)?README\.md")  # pages are compared with the records instead
RECORD_FILE = re.compile(rf"({TRIALS}/)?[^/]+/seed[^/]*/|{SEARCHES}/")  # how the path of a record's file begins
ANY_FILE = re.compile("")
WRITER_SECONDS = 120.0


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a results folder, by its path in the folder; empty without a manifest."""
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
    text = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    write_atomically(folder / MANIFEST_FILE, text.encode())


def update_manifest(folder: Path) -> None:
    """Compute the hashes of benchmarks, literature and pictures again; the hashes of records stay."""
    kept = {name: digest for name, digest in read_manifest(folder).items() if RECORD_FILE.match(name)}
    fresh = {name: file_hash(path) for name, path in _listed_files(folder).items() if not RECORD_FILE.match(name)}
    write_manifest(folder, {**kept, **fresh})


def manifest_problems(folder: Path, *, records_only: bool = False) -> list[str]:
    """Return the files of a results folder that are missing, not listed or changed.

    ``records_only`` ignores the files that :func:`update_manifest` lists.
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

    It shows the files whose paths begin with one of the ``prefixes``, but for predictions and replays.
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


def require_writable(folder: Path) -> None:
    """Raise InputError now, and not after a training, where nothing can be written into a results folder."""
    if problem := unwritable(folder):
        raise InputError(f"nothing can be published in {folder}: {problem}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process write into a results folder, and remove what killed processes left unfinished there."""
    with lock_folder(folder, f"results folder {folder}", WRITER_SECONDS):
        _remove_unfinished(folder)
        yield


def is_listed(folder: Path, path: Path) -> bool:
    """Return whether the manifest of a results folder has files of the record at ``path``."""
    beginning = f"{path.relative_to(folder).as_posix()}/"
    return any(name.startswith(beginning) for name in read_manifest(folder))


def add_files(folder: Path, path: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a new record, contents by name, to ``path`` in a results folder; call it in :func:`locked`.

    A record at ``path`` that is not listed in the manifest, as a killed process leaves it, is listed if its files are
    the same; the date of a replay may differ.
    """
    if is_listed(folder, path):
        raise InputError(f"{path} is already published (give another run)")
    if path.exists():
        paths = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
        present = {file.as_posix() for file in paths if not is_hidden(file)}
        compared = sorted(present - {REPLAYS_FILE})
        if present != set(files) or any((path / name).read_bytes() != files[name] for name in compared):
            raise InputError(f"{path} exists, and {folder / MANIFEST_FILE} does not list it (remove it)")
    else:
        with folder_atomically(path) as new:
            for name, content in files.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(new / name, content)
    _list_files(folder, path, files)


def set_files(folder: Path, path: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a record that is published already, or a new search; call it in :func:`locked`.

    The other files stay.
    """
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        write_atomically(path / name, content)
    _list_files(folder, path, files)


def _list_files(folder: Path, path: Path, files: Mapping[str, bytes]) -> None:
    beginning = path.relative_to(folder).as_posix()
    hashes = {f"{beginning}/{name}": file_hash(path / name) for name in files}
    write_manifest(folder, {**read_manifest(folder), **hashes})


def _remove_unfinished(folder: Path) -> None:
    """Remove unfinished files and folders, and files of records that a killed process wrote but did not list.

    The lock is held, so nobody is writing them.
    """
    for place in (*folder.glob("*/"), *folder.glob(f"{TRIALS}/*/")):
        for path in unfinished_folders(place):
            shutil.rmtree(path, ignore_errors=True)
    unfinished_file(folder / MANIFEST_FILE).unlink(missing_ok=True)
    listed = read_manifest(folder)
    for place in (*folder.glob(f"{RECORD_FOLDERS}/"), *folder.glob(f"{TRIAL_FOLDERS}/")):
        path = place / REPLAYS_FILE
        unfinished_file(path).unlink(missing_ok=True)
        if path.exists() and path.relative_to(folder).as_posix() not in listed and is_listed(folder, place):
            path.unlink()
