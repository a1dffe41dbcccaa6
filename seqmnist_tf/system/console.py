"""Text for people: results on stdout, notes and warnings on stderr, Markdown tables, and text of others in them."""

import contextlib
import errno
import io
import json
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .errors import RunError

CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs
TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # marks of the direction of writing


class _Patient:
    """A stream whose reader may go away: what cannot be written any more is dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare_console() -> None:
    """Let no terminal end a command: characters that it lacks are escaped, and closed streams are dropped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            # The descriptor too, or the next file to be opened would get it, and TensorFlow's notes.
            _point_at_nothing(number)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 as long as the process
    if not isinstance(sys.stderr, _Patient):
        sys.stderr = _Patient(sys.stderr)


def say(text: str) -> None:
    """Print a line on stdout at once. Where its reader has gone away, the line is dropped and the command goes on."""
    with reader_may_leave():
        print(_without_control(text), flush=True)


def say_json(document: Any) -> None:
    """Print the one JSON document that a command prints with ``--json``.

    Raises:
        RunError: it has a number that JSON does not have, such as NaN.
    """
    try:
        say(json.dumps(document, allow_nan=False))
    except ValueError:
        raise RunError("the result has a number that is not finite, which JSON does not have") from None


def _without_control(text: str) -> str:
    """Return text, perhaps with some of others, with what moves a terminal's cursor or turns its writing escaped."""

    def moves(character: str) -> bool:
        return character in TURNS or (unicodedata.category(character) in CONTROL and character not in "\n\t")

    return "".join(_escape(character) if moves(character) else character for character in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def abandon_stdout() -> None:
    """Drop what stdout does not take, at the end of a command: Python would try again, and complain, at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        _point_at_nothing(sys.stdout.fileno())


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Point stdout at nothing where its reader went away: text left in its buffer would break whoever flushes next.

    A pipe then fails with EPIPE, a terminal that was closed with EIO. A full disk stays an error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        _point_at_nothing(sys.stdout.fileno())


def _point_at_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    if nothing != descriptor:
        os.dup2(nothing, descriptor)
        os.close(nothing)


def note(text: str) -> None:
    """Print a line on stderr at once: progress and remarks that are no part of a command's result."""
    print(_without_control(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def call_when_slow(seconds: float, function: Callable[[str], None], text: str) -> Iterator[None]:
    """Call ``function(text)``, such as :func:`note`, if the block takes more than ``seconds``."""
    timer = threading.Timer(seconds, function, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def warn(text: str) -> None:
    """Print a warning on stderr at once."""
    note(f"warning: {text}")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table without a newline at its end.

    A heading that begins with ``>`` is the heading of a right-aligned column.

    Example::

        markdown_table(["run", ">seeds"], [["baseline", 5]])
    """
    texts = [[re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\|", str(cell)) for cell in row] for row in rows]
    names = " | ".join(name.removeprefix(">") for name in head)
    rule = "|".join("---:" if name.startswith(">") else "---" for name in head)
    return "\n".join([f"| {names} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in texts)])


def escape_markdown(text: str) -> str:
    """Return text of others so that it stands in a table's cell as it is: no markup, no HTML, one line.

    Characters that cannot be printed become ``?``.

    Example:
        >>> escape_markdown("a|b <!-- end -->")
        'a\\\\|b &lt;!-- end --&gt;'
    """
    text = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_~\[\]|])", r"\\\1", text)
