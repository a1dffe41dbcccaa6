"""The source files that a run executes, and one hash over all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SOURCE_SUFFIXES = (".py", ".pyi", ".cpp", ".h")
BUILD_FILES = ("pyproject.toml", "setup.py")  # a wheel lacks them


def is_source(path: str) -> bool:
    """Return whether a file counts in the hash; ``path`` is relative to the root of the repository, with slashes."""
    return path in BUILD_FILES or (path.startswith(f"{PACKAGE.name}/") and path.endswith(SOURCE_SUFFIXES))


def package_sources() -> dict[str, bytes]:
    """Return the sources of this installation by their path in the repository: of a clone, or of a wheel.

    Example:
        >>> "seqmnist_tf/system/sources.py" in package_sources()
        True
    """
    root = PACKAGE.parent
    paths = [*PACKAGE.rglob("*"), *(root / name for name in BUILD_FILES)]
    names = {path.relative_to(root).as_posix(): path for path in paths if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if is_source(name)}


def hash_sources(sources: Mapping[str, bytes]) -> str:
    """Return one SHA-256 over names and contents, 64 hexadecimal digits.

    Neither the order of the files nor their line endings count: git may change these when it checks out a file.

    Args:
        sources: contents by path in the repository.
    """
    digest = hashlib.sha256()
    for name in sorted(sources):
        content = sources[name].replace(b"\r\n", b"\n")
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()
