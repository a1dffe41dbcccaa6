"""What a command prints for people: results on stdout, notes and warnings on stderr."""

import sys


def say(text: str) -> None:
    """Print a line on stdout at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print a line on stderr at once: progress and remarks that are no part of a command's result."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning on stderr at once."""
    note(f"warning: {text}")
