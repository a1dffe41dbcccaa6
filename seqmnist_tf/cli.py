"""Command lines made from the configuration's declaration, and the exit status of every command.

The standard library's argparse does the reading. Libraries that build a parser from dataclasses were weighed and left:
the contract (one ``error:`` line, ``--a.b-c`` equal to ``--a.b_c``, preset before file before flags) would need most of
this module around them all the same.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from . import config as cfg
from .config import Config
from .errors import InputError, RunError

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises InputError where argparse would print its usage and exit.

    Dashes and underscores are the same in the names of its options.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def parse_known_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        return super().parse_known_args(_canonical(args), namespace)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def run(main: Callable[[list[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Call ``main`` with the command line and exit with its status, or with the one that its exception stands for."""
    try:
        status = main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout went away (`... | head`); Python would complain once more while closing it.
        sys.stderr.close()
        status = EXIT_FAILED
    except (InputError, RunError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        status = EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED
    sys.exit(status)


@dataclass(frozen=True)
class Arguments:
    """What a command line of a command with a configuration said.

    Attributes:
        config: preset, then file, then flags; validated.
        preset: the preset's name as given, or None.
        given: the values that the file and the flags gave, by key.
        options: the command's own options.
    """

    config: Config
    preset: str | None
    given: dict[str, Any] = field(repr=False)
    options: argparse.Namespace


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``[PRESET] [--config FILE] [--SECTION.KEY VALUE ...] [--print-config]`` to a command."""
    parser.usage = f"{parser.prog} [PRESET] [--config FILE] [--SECTION.KEY VALUE ...] [options]"
    presets = "\n".join(
        textwrap.fill(preset.doc, 79, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14)
        for name, preset in cfg.PRESETS.items()
    )
    parser.epilog = (
        f"presets:\n{presets}\n\n"
        "A value is taken from the preset, then the file, then the flags. Dashes and\n"
        "underscores are the same in a key. Booleans are true or false; null switches an\n"
        "optional key off.\n"
        "Exit status: 0 done, 1 failed while running, 2 bad input, 130 interrupted."
    )
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="named configuration (default: baseline)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON file with sections of keys; any may lack")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and exit")
    groups = {name: parser.add_argument_group(name) for name in cfg.SECTIONS}
    for option in cfg.OPTIONS.values():
        default = json.dumps(option.default).strip('"')
        groups[option.key.split(".")[0]].add_argument(
            f"--{option.key}",
            dest=option.key,
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=f"{option.meta['doc']} [{option.allowed}] (default: {default})".replace("%", "%%"),
        )


def parse(parser: Parser, argv: Sequence[str]) -> Arguments:
    """Parse the command line of a parser made with :func:`add_config_arguments`.

    Raises:
        InputError: an unknown option or key, an unreadable file, a value that is not allowed.
    """
    options, rest = parser.parse_known_args(argv)
    for word in rest:
        if match := re.match(r"--(\w+\.\w+)(=|$)", word):
            cfg.with_values(Config(), {match[1]: None})  # raises: the key is unknown
        raise InputError(f"unknown argument {word!r} (see {parser.prog} --help)")
    words = {key: value for key, value in vars(options).items() if key in cfg.OPTIONS}
    given = cfg.read_values(options.config) if options.config else {}
    given.update({key: cfg.OPTIONS[key].parse(word) for key, word in words.items()})
    config = cfg.validate(cfg.with_values(cfg.preset(options.preset or "baseline"), given))
    resolved = cfg.flatten(config)
    return Arguments(config, options.preset, {key: resolved[key] for key in given}, options)


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
