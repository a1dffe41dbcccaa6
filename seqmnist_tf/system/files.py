"""Files and folders that are whole at every moment: a kill leaves the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .console import InputError, first_line


@contextlib.contextmanager
def reading(name: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error while a file is read into InputError; ``name`` is its path, with the key that gave it if any."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # each format has its own exceptions for a broken file
        raise InputError(f"cannot read {name}: {getattr(error, 'strerror', None) or first_line(error)}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; InputError where the file cannot be read or holds something else."""
    with reading(path):
        return msgspec.json.decode(path.read_bytes().decode("utf-8-sig"), type=dict[str, Any])


def json_bytes(document: Any) -> bytes:
    """Return a JSON document as the content of a file: UTF-8, indented; ValueError for a NaN."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def write_problem(path: Path) -> str | None:
    """Return why no folder can be made or written at ``path``, which need not exist; None where one can."""
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return None
    return f"{nearest} is not a writable folder"


def require_folder(path: Path, markers: Sequence[str], kind: str) -> None:
    """Raise InputError where ``--dir`` cannot be written, or holds visible files and none of ``markers``."""
    if problem := write_problem(path):
        raise InputError(f"cannot write to {path}: {problem} (give a writable --dir)")
    holds_files = path.is_dir() and any(file.name[0] != "." for file in path.iterdir())
    if holds_files and not any((path / marker).exists() for marker in markers):
        raise InputError(f"{path} holds other files and no {kind} (give a new --dir)")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment it is whole, the old or the new one."""
    replace_atomically(path, lambda new: new.write_bytes(content))


def replace_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` write a file beside ``path``, then rename it to ``path``, which a failure leaves as it was."""
    new = path.with_name(f".new-{path.name}")
    try:
        write(new)
        with open(new, "rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``, and rename it to ``path`` at the end.

    A killed process leaves the unfinished folder behind. OSError: at ``path`` is a file, or a folder with content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".new-{path.name}-{secrets.token_hex(4)}.part")
    new.mkdir()
    try:
        yield new
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
