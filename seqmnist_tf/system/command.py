"""The parser of every command, and its exit status."""

from __future__ import annotations

import argparse
import functools
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from .console import abandon_stdout, note, prepare_console, reader_may_leave
from .errors import InputError, RunError

Number = TypeVar("Number", int, float)

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
WIDE_HELP: Any = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=34)  # names are long


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises InputError where argparse would print its usage and exit.

    Dashes and underscores are the same in the names of its options. A path must not be empty.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=WIDE_HELP, **kwargs)
        self.add_argument("--traceback", action="store_true", help="print where in the code an error was raised, too")
        self.register("type", Path, _path)
        for kind in (int, float):
            self.register("type", kind, functools.partial(parse_number, kind))

    def parse_known_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        words, own = _canonical(args), self._option_string_actions
        if empty := [word for word in words if re.fullmatch("--[^=]+=--", word)]:  # argparse drops the value
            self.error(f"argument {empty[0][:-3]}: expected one argument")
        # Keys that are not its options apart: argparse takes them for positionals where their values have a blank.
        keys = [word for word in words if re.match(r"--\w+\.", word) and word.partition("=")[0] not in own]
        namespace, rest = super().parse_known_args([word for word in words if word not in keys], namespace)
        return namespace, [*rest, *keys]

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def run_command(main: Callable[[list[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Call ``main`` with the command line, then exit with the status that it returns or that its exception stands for.

    SIGTERM ends a command in the same way as Ctrl-C, so that nothing half-written stays. With ``--traceback``, the
    traceback of an error is printed before its line.

    Example::

        if __name__ == "__main__":
            run_command(main)
    """
    prepare_console()
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            status: Any = main(words)
        except SystemExit as ended:  # argparse, after --help
            status = ended.code
        with reader_may_leave():
            sys.stdout.flush()
    except KeyboardInterrupt:
        note("interrupted")
        status = EXIT_INTERRUPTED
    except (InputError, RunError, OSError) as error:
        if "--traceback" in words:
            traceback.print_exception(error)
        note(f"error: {' '.join(str(error).split())}")
        abandon_stdout()
        status = EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED
    sys.exit(status)


def _path(word: str) -> Path:
    """Return the path of a word; an empty one, as a shell makes of a variable that is not set, would be this folder."""
    if not word:
        raise argparse.ArgumentTypeError("must be a path (got '')")
    return Path(word)


def parse_number(kind: Callable[[str], Number], word: str) -> Number:
    """Return the number of a word as ``int`` or ``float`` reads it, without underscores, blanks and other digits.

    Raises:
        ValueError: it is none.

    Example:
        >>> parse_number(float, "1e-3")
        0.001
    """
    if not re.fullmatch("[-+.0-9a-zA-Z]+", word):
        raise ValueError(f"not a number: {word!r}")
    return kind(word)


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
