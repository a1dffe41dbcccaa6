"""Where a run comes from: its commit, its command, layer and pixel order.

The recorded command must give the run's configuration; it is published without places of the machine.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ..config import LAYER_FILE, Arguments, Config, contradictions, flatten, is_trial, layer_file
from ..data import pixel_order
from ..system import InputError, ask_git
from ..train import TRAIN_COMMAND, RunDirectory, parse_train_arguments, train_command
from .records import publication_problems


def origin_problems(run: RunDirectory, environment: dict[str, Any], summary: dict[str, Any], root: Path) -> list[str]:
    """Return whether a run, of the clone at ``root``, is incomplete, or not what its commit and its command give."""
    config = run.config
    problems = publication_problems(config)
    if config.task.permutation.startswith("file:"):
        return problems  # the file is not in the record
    allowed = ("completed",) if is_trial(config) else ("completed", "diverged")
    if summary.get("status") not in allowed:
        problems.append(f"its status must be {' or '.join(allowed)} (got {summary.get('status')})")
    return [
        *problems,
        *code_problems(environment, root),
        *command_problems(config, environment),
        *path_problems(config, environment),
        *_layer_problems(run, config),
        *_order_problems(run, config),
    ]


def code_problems(environment: dict[str, Any], root: Path) -> list[str]:
    """Return whether the code of a run is not that of one commit, or of one released version."""
    parts = (environment, *environment["resumed"])
    problems = []
    for part in parts:
        commit, dirty, version = part["git"]["commit"], part["git"]["dirty"], part["versions"].get("seqmnist_tf")
        if commit is None and dirty is None:  # it ran from a wheel
            if commit_of_version(root, version) is None:
                problems.append(f"its commit is unknown, and version {version} is not a tag of this clone")
        elif not commit or dirty is not False:
            problems.append(
                f"it must be trained from a commit, without changes of the code (got commit {commit}, dirty {dirty})"
            )
        else:
            problems += commit_problems(root, commit)
    if any(part["git"]["commit"] != environment["git"]["commit"] for part in parts):
        problems.append("its parts must be trained from one commit (they differ)")
    return problems


def _layer_problems(run: RunDirectory, config: Config) -> list[str]:
    """Return whether the file of the layer is missing or left over."""
    file, is_there = layer_file(config), (run.path / LAYER_FILE).exists()
    if file is not None and not is_there:
        return [f"{LAYER_FILE} is missing, the file of its layer"]
    if file is None and is_there:
        return [f"{LAYER_FILE} does not belong to a run whose layer is not from a file"]
    return []


def _order_problems(run: RunDirectory, config: Config) -> list[str]:
    """Return whether ``pixel_order.txt`` is not the order of the configuration."""
    if np.array_equal(run.pixel_order(), pixel_order(config.task.permutation)):
        return []
    return [f"pixel_order.txt is not the order of task.permutation {config.task.permutation}"]


def commit_problems(root: Path, commit: object) -> list[str]:
    """Return why something is not a commit of the clone at ``root``."""
    if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit):
        return [f"its commit must be 40 hexadecimal digits (got {commit!a})"]
    if ask_git(root, "cat-file", "-t", commit) == b"commit\n":
        return []
    if ask_git(root, "rev-parse", "--git-dir") is None:
        return [
            f"its commit {commit[:7]} cannot be checked: {root.absolute()} is not a git clone (or git cannot read it)"
        ]
    if ask_git(root, "rev-parse", "--is-shallow-repository") == b"true\n":
        return [f"its commit {commit[:7]} is not in this clone, which is shallow (git fetch --unshallow)"]
    return [f"its commit {commit[:7]} is not a commit of this clone"]


def ancestor_problems(root: Path, commit: str | None) -> list[str]:
    """Return whether a commit is not in the history of HEAD: other clones will lack it. A run from a wheel has none."""
    if commit is None or ask_git(root, "merge-base", "--is-ancestor", commit, "HEAD") is not None:
        return []
    return [f"its commit {commit[:7]} is not in the history of HEAD (commits of runs must not be amended or squashed)"]


def commit_of_version(root: Path, version: object) -> str | None:
    """Return the commit of a released version, tagged ``v<version>``, or None where the clone has no such tag."""
    if not isinstance(version, str) or not re.fullmatch(r"[0-9][0-9A-Za-z.+-]{0,40}", version):
        return None
    answer = ask_git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/v{version}^{{commit}}")
    return answer.decode().strip() if answer else None


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
        if part is not environment and not args.options.resume:
            problems.append(f"the command of a resumed part must have --resume (got {part['command']!a})")
        preset = args.preset or ("baseline" if part is environment else None)
        if preset and environment["preset"] not in (preset, None):
            problems.append(f"its command is of preset {preset} (environment.json says {environment['preset']})")
        problems += [
            f"its command gives {key} {value} (config.json has {actual})"
            for key, (value, actual) in contradictions(given, config).items()
            if key != "train.threads"  # several runs at a time share the cores, and nothing depends on it
        ]
    return problems


def path_problems(config: Config, environment: dict[str, Any]) -> list[str]:
    """Return the absolute paths in a configuration and its commands: they say nothing to others."""
    texts = (config.data.dir, config.model.layer)
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
    values = {key: value for key, value in args.given.items() if key != "data.dir"}
    if "model.layer" in values:
        values["model.layer"] = public_layer(values["model.layer"])
    run_dir = args.options.run_dir
    return train_command(
        args.preset, values, run_dir=None if run_dir is None else public_path(str(run_dir)), resume=args.options.resume
    )


def public_config(values: dict[str, Any]) -> dict[str, Any]:
    """Return the content of ``config.json`` without places of the machine; its ``config_id`` is the same."""
    sections = {name: dict(fields) for name, fields in values.items()}
    if sections.get("data", {}).get("dir") is not None:
        sections["data"]["dir"] = None
    if layer := sections.get("model", {}).get("layer"):
        sections["model"]["layer"] = public_layer(layer)
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
