"""The parser of every command, and its exit status."""

from __future__ import annotations

import argparse
import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .console import InputError, RunError, note

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
WIDE_HELP: Any = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=34)  # names are long


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises InputError where argparse would print its usage and exit.

    Dashes and underscores are the same in the names of its options.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=WIDE_HELP, **kwargs)
        self.add_argument("--traceback", action="store_true", help="print the traceback of an error, too")

    def parse_known_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        words, known = _canonical(args), self._option_string_actions
        # argparse takes an unknown key for a positional argument if its value contains a blank.
        keys = [word for word in words if re.match(r"--\w+\.", word) and word.partition("=")[0] not in known]
        namespace, rest = super().parse_known_args([word for word in words if word not in keys], namespace)
        return namespace, [*rest, *keys]

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def run_command(main: Callable[[list[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Call ``main`` with the command line, and exit with its status or with that of its exception.

    SIGTERM ends a command as Ctrl-C does, so that no half-written file stays. ``--traceback`` prints the traceback of
    an error before its line.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # characters that a terminal lacks
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = main(words)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe, as in `--help | head`; Python would complain at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_FAILED
    except KeyboardInterrupt:
        note("interrupted")
        status = EXIT_INTERRUPTED
    except (InputError, RunError, OSError) as error:
        if "--traceback" in words:
            traceback.print_exception(error)
        note(f"error: {' '.join(str(error).split())}")
        status = EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED
    sys.exit(status)


def _canonical(argv: Sequence[str]) -> list[str]:
    """Write option names in one way: ``--a.b-c -1`` becomes ``--a.b_c=-1``, ``--run_dir`` becomes ``--run-dir``."""
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name.startswith("--") and "." in name:
            name = "--" + name[2:].replace("-", "_")
            if not equals and (following := next(rest, None)) is not None:
                equals, value = "=", following
            word = name + equals + value
        elif name.startswith("--"):
            word = "--" + name[2:].replace("_", "-") + equals + value
        words.append(word)
    return words
