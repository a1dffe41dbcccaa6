"""Changes of the files of a run, for tests of what must be noticed: each is a function of the file's path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[Path], Any]


def content(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON document."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def put(*keys: str | int, value: Any) -> Callable[[Path], None]:
    """Return a change that sets a value, at some depth of a JSON object."""

    def change(path: Path) -> None:
        def set_value(document: Any) -> None:
            for key in keys[:-1]:
                document = document[key]
            document[keys[-1]] = value

        change_json(path, set_value)

    return change


def drop(key: str) -> Callable[[Path], None]:
    return lambda path: change_json(path, lambda document: document.pop(key))


def row(number: int, **values: Any) -> Callable[[Path], None]:
    """Return a change of one row of JSON Lines."""

    def change(path: Path) -> None:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows[number].update(values)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return change


def replace(pattern: str, text: str) -> Callable[[Path], None]:
    """Return a change of the first match of a pattern."""

    def change(path: Path) -> None:
        old = path.read_text()
        assert re.search(pattern, old), pattern
        path.write_text(re.sub(pattern, lambda _: text, old, count=1))

    return change


def text(content: str | bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def first_lines(number: int) -> Change:
    """Return a change that leaves so many lines."""
    return lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:number]))
