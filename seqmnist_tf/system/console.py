"""Text for people: results on stdout, notes and warnings on stderr, Markdown tables, and untrusted text in them."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from .errors import RunError


def say(text: str) -> None:
    """Print a line on stdout at once."""
    print(text, flush=True)


def say_json(document: Any) -> None:
    """Print the one JSON document that a command prints with ``--json``.

    Raises:
        RunError: it has a number that JSON does not have, such as NaN.
    """
    try:
        say(json.dumps(document, allow_nan=False))
    except ValueError as error:
        raise RunError(str(error)) from None


def note(text: str) -> None:
    """Print a line on stderr at once: progress and remarks that are no part of a command's result."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning on stderr at once."""
    note(f"warning: {text}")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table; a column is right-aligned where its heading begins with ``>``."""
    texts = [[re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\|", str(cell)) for cell in row] for row in rows]
    names = " | ".join(name.removeprefix(">") for name in head)
    rule = "|".join("---:" if name.startswith(">") else "---" for name in head)
    return "\n".join([f"| {names} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in texts)])


def escape_markdown(text: str) -> str:
    """Return untrusted text so that it stands in a table's cell as it is: no markup, no HTML, one line.

    Characters that cannot be printed become ``?``.

    Example:
        >>> escape_markdown("a|b <!-- end -->")
        'a\\\\|b &lt;!-- end --&gt;'
    """
    text = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_~\[\]|])", r"\\\1", text)
