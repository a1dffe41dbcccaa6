"""The recorded command of a run: whether it gives the run's configuration, and how it is published."""

from __future__ import annotations

import contextlib
import io
import shlex
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..config import Arguments, Config, contradictions, flatten
from ..system import InputError
from ..train import TRAIN_COMMAND, parse_train_arguments, train_command

PLACES = ("data.dir",)  # keys that name a folder of the machine


def parse_command(command: str) -> Arguments:
    """Return the arguments of a recorded command line, with the parser of ``train``; raise InputError for another."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"{error} (got {command!a})") from None
    if tuple(words[:3]) != TRAIN_COMMAND:
        raise InputError(f"it must be {' '.join(TRAIN_COMMAND)} ... (got {command!a})")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return parse_train_arguments(words[3:])
    except SystemExit:  # argparse, after --help
        raise InputError(f"it trains nothing (got {command!a})") from None


def command_problems(config: Config, environment: dict[str, Any]) -> list[str]:
    """Return whether a recorded command line, of the start or of a resumed part, gives another configuration."""
    problems = []
    for part in (environment, *environment["resumed"]):
        if "--config" in _pieces(part["command"]):
            problems.append(f"its command names a file that is not in the record (got {part['command']!a})")
            continue
        try:
            args = parse_command(part["command"])
            given = flatten(args.config) if part is environment else args.given
        except InputError as error:
            problems.append(f"its command is not one of train: {error}")
            continue
        is_resumed = bool(args.options.resume)
        if part is not environment and not is_resumed:
            problems.append(f"the command of a resumed part must have --resume (got {part['command']!a})")
        preset = args.preset or ("baseline" if part is environment else None)
        if preset and environment["preset"] not in (preset, None):
            problems.append(f"its command is of preset {preset} (environment.json says {environment['preset']})")
        problems += [
            f"its command gives {key} {value} (config.json has {actual})"
            for key, (value, actual) in contradictions(given, config).items()
        ]
    return problems


def path_problems(config: Config, environment: dict[str, Any]) -> list[str]:
    """Return the absolute paths in a configuration and its commands: they say nothing to others."""
    texts = [value for key, value in flatten(config).items() if key in PLACES or key == "model.layer"]
    problems = [f"config.json must name no absolute path (got {text})" for text in texts if text and is_absolute(text)]
    for part in (environment, *environment["resumed"]):
        if absolute := [word for word in _pieces(part["command"]) if is_absolute(word)]:
            problems.append(f"its command must name no absolute path (got {absolute[0]})")
    return problems


def is_absolute(text: str) -> bool:
    """Return whether a word is an absolute path, or one in a home folder, of Unix or Windows."""
    return text.startswith("~") or PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def public_command(command: str) -> str:
    """Return a command line as it is published: without places of the machine, and with the values of its file.

    A command without such places is left as it is, and so is one that no shell can split, which the checks refuse.
    """
    words = _pieces(command)
    if not any(is_absolute(word) for word in words) and not {"--data.dir", "--config"} & set(words):
        return command
    for option, value in pairwise(words):
        if option == "--config" and not Path(value).is_file():
            raise InputError(f"its command names a file that is not there (--config {value})")
    args = parse_command(command)
    values = {key: value for key, value in args.given.items() if key not in PLACES}
    if "model.layer" in values:
        values["model.layer"] = public_layer(values["model.layer"])
    run_dir = args.options.run_dir
    return train_command(
        args.preset,
        values,
        run_dir=None if run_dir is None else public_path(str(run_dir)),
        resume=args.options.resume,
    )


def public_config(values: dict[str, Any]) -> dict[str, Any]:
    """Return the content of ``config.json`` without places of the machine; its ``config_id`` is the same."""
    sections = {name: dict(fields) if isinstance(fields, dict) else fields for name, fields in values.items()}
    for key in PLACES:
        section, name = key.split(".")
        if isinstance(sections.get(section), dict) and sections[section].get(name) is not None:
            sections[section][name] = None
    model = sections.get("model")
    if isinstance(model, dict) and isinstance(model.get("layer"), str):
        model["layer"] = public_layer(model["layer"])
    return sections


def public_layer(spec: str) -> str:
    """Return ``model.layer`` with the name of its file in place of an absolute path."""
    path, colon, name = spec.rpartition(":")
    return f"{public_path(path)}{colon}{name}"


def public_path(path: str) -> str:
    """Return the last part of an absolute path; another path as it is."""
    return PureWindowsPath(path).name if is_absolute(path) else path


def _pieces(command: str) -> list[str]:
    """Return the words of a command line, options apart from their values; an empty list where it has no words."""
    try:
        return [piece for word in shlex.split(command) for piece in word.split("=", 1)]
    except ValueError:
        return []
