"""Command lines of configurations: ``[PRESET] [--config FILE] [--SECTION.KEY VALUE ...]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..system import InputError, Parser
from .presets import PRESETS, preset
from .sections import OPTIONS, Config, find_option
from .values import flatten, read_values, unknown_key, validate, value_text, with_values

DOCS = "docs/training.md"  # explains the keys in full


@dataclass(frozen=True)
class Arguments:
    """The arguments of a command: the preset's name as given, values of file and flags by key, its own options."""

    preset: str | None
    given: dict[str, Any] = field(repr=False)
    options: argparse.Namespace

    @property
    def config(self) -> Config:
        """The values of the preset (without one, of ``baseline``), then of the file, then of the flags, validated."""
        return validate(with_values(preset("baseline" if self.preset is None else self.preset), self.given))


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``[PRESET] [--config FILE] [--SECTION.KEY VALUE ...] [--print-config]`` to a command."""
    parser.usage = f"{parser.prog} [PRESET] [--config FILE] [--SECTION.KEY VALUE ...] [options]"
    width = max(map(len, PRESETS)) + 2
    presets = "\n".join(f"  {name:<{width}}{preset.title}" for name, preset in PRESETS.items())
    parser.epilog = (
        f"presets ({DOCS} has their results):\n{presets}\n\n"
        "In brackets: a key's allowed values; its default. Precedence: preset, then file,\n"
        "then flags. Dashes and underscores are the same in a key; null switches an\n"
        f"optional key off. {DOCS} explains each key.\n"
        "Exit status: 0 done, 1 failed while running, 2 bad input, 130 interrupted."
    )
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="named configuration (default: baseline)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="JSON file of sections and keys; any of them may be omitted"
    )
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and exit")
    keys = parser.add_argument_group("keys")
    for option in OPTIONS.values():
        meaning = option.meaning.partition(". ")[0].removesuffix(".")
        text = f"{meaning}. [{option.allowed}; {value_text(option.default)}]".replace("%", "%%")
        text = argparse.SUPPRESS if option.hidden else text
        keys.add_argument(f"--{option.key}", dest=option.key, metavar="X", default=argparse.SUPPRESS, help=text)


def parse_arguments(parser: Parser, argv: Sequence[str]) -> Arguments:
    """Parse the command line of a parser made with :func:`add_config_arguments`.

    Each value is checked alone. ``config`` of the result checks that they fit together: the values for a resumed run
    need not make a whole configuration.
    """
    options, rest = parser.parse_known_args(argv)
    words = {key: value for key, value in vars(options).items() if key in OPTIONS}
    given = read_values(options.config) if options.config else {}
    given.update({key: OPTIONS[key].parse(word) for key, word in words.items()})
    given.update(read_flags(rest, parser.prog))
    resolved = flatten(with_values(preset("baseline" if options.preset is None else options.preset), given))
    return Arguments(options.preset, {key: resolved.get(key, value) for key, value in given.items()}, options)


def read_flags(words: Sequence[str], prog: str) -> dict[str, Any]:
    """Return the values of words ``--SECTION.KEY=VALUE`` by key; raise InputError for other words."""
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.removeprefix("--").partition("=")
        option = find_option(key) if word.startswith("--") else None
        if word.startswith("--") and "." in key and option is None:
            raise unknown_key(key)
        if option is None or not equals:
            raise InputError(f"unknown argument {word!r} (see {prog} --help)")
        values[key] = option.parse(text)
    return values
