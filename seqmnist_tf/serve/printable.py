"""Text of others on the terminal: file names and servers' answers, whose control characters could move its cursor."""

from __future__ import annotations


def printable(text: str, longest: int = 300) -> str:
    """Return text on one line, its control characters escaped, and cut after ``longest`` characters.

    Control characters are all that ``str.isprintable`` denies: escape sequences, new lines, marks that turn the
    direction of writing, lone surrogates of file names that are not UTF-8.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: longest + 1])
    return shown if len(text) <= longest else f"{shown[: longest - 3]}..."
