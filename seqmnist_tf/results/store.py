"""Writing into the results folder: one process at a time, and whole after a kill at any moment.

A record is filled under a hidden name, renamed, and then listed in the manifest. Where a process is killed in between,
the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import filelock

from ..system import InputError, RunError, folder_atomically, unfinished_file, unfinished_folders, write_atomically
from .layout import RECORD_FOLDERS, REPLAYS_FILE, TRIAL_FOLDERS, TRIALS
from .manifest import MANIFEST_FILE, file_hash, read_manifest, write_manifest

WRITER_SECONDS = 120.0


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process write into a results folder, and remove what killed processes left unfinished there.

    Raises:
        RunError: another process writes there for longer than WRITER_SECONDS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=WRITER_SECONDS):
            _remove_unfinished(folder)
            yield
    except filelock.Timeout:
        raise RunError(
            f"another process has been writing into {folder} for {WRITER_SECONDS:.0f} s (try again)"
        ) from None


def is_listed(folder: Path, path: Path) -> bool:
    """Return whether the manifest of a results folder has files of the record at ``path``."""
    beginning = f"{path.relative_to(folder).as_posix()}/"
    return any(name.startswith(beginning) for name in read_manifest(folder))


def add_files(folder: Path, path: Path, files: Mapping[str, bytes]) -> None:
    """Write a new record; call it in :func:`locked`.

    A record at ``path`` that is not listed in the manifest, as a killed process leaves it, is listed if its files are
    the same.

    Args:
        folder: the results folder.
        path: the folder of the record, in it.
        files: contents by name.

    Raises:
        InputError: the record is published, or other files are at ``path``.
        OSError: the disk is full; nothing is changed.
    """
    if is_listed(folder, path):
        raise InputError(f"{path} is already published (give another run)")
    if path.exists():
        _require_same(folder, path, files)
    else:
        with folder_atomically(path) as new:
            for name, content in files.items():
                write_atomically(new / name, content)
    _list_files(folder, path, files)


def set_files(folder: Path, path: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a record that is published already; call it in :func:`locked`. The other files stay."""
    for name, content in files.items():
        write_atomically(path / name, content)
    _list_files(folder, path, files)


def _list_files(folder: Path, path: Path, files: Mapping[str, bytes]) -> None:
    beginning = path.relative_to(folder).as_posix()
    hashes = {f"{beginning}/{name}": file_hash(path / name) for name in files}
    write_manifest(folder, {**read_manifest(folder), **hashes})


def _require_same(folder: Path, path: Path, files: Mapping[str, bytes]) -> None:
    """Raise InputError where ``path`` is not what :func:`add_files` writes; the date of a replay may differ."""
    present = {file.name for file in path.iterdir() if not file.name.startswith(".")}
    compared = sorted(present - {REPLAYS_FILE})
    if present != set(files) or any((path / name).read_bytes() != files[name] for name in compared):
        raise InputError(f"{path} exists, and {folder / MANIFEST_FILE} does not list it (remove it)")


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
