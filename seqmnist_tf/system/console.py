"""What a command says: errors of one line, results, notes and warnings."""

import json
import re
import sys
from typing import Any


class InputError(ValueError):
    """Bad input. The message is one line: what was given and what is allowed. Commands exit with status 2."""


class RunError(RuntimeError):
    """Failure while running. The message is one line: what happened and what to do. Commands exit with status 1."""


def first_line(error: BaseException) -> str:
    """Return the line of an exception's message that says what happened, without TensorFlow's names of operations.

    It is the first line; for an error in a graph, the last; for an error in a layer, the one after Keras's own.
    """
    text = str(error).split("<stack traces unavailable>")[-1]
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*|\x1b\[\d+m", "", text).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip() not in ("", "[[]]")]
    if lines and lines[0] == "Graph execution error:":
        return lines[-1]
    if lines and lines[0].startswith("Exception encountered when calling"):
        lines = lines[1:]
    return (lines or [type(error).__name__])[0]


def say(text: str) -> None:
    """Print a line on stdout at once."""
    print(text, flush=True)


def say_json(document: Any) -> None:
    """Print the JSON document of ``--json``, which has no NaN."""
    say(json.dumps(document, allow_nan=False))


def note(text: str) -> None:
    """Print a line on stderr at once: progress and remarks, which are not a command's result."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning on stderr at once."""
    note(f"warning: {text}")
