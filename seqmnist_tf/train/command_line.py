"""The command line of ``seqmnist_tf.train``, as the command reads it and as a record holds it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import Arguments, add_config_arguments, parse_arguments, value_text
from ..system import Parser

TRAIN_COMMAND = ("python", "-m", "seqmnist_tf.train")  # how a recorded command line begins


def parse_train_arguments(argv: Sequence[str]) -> Arguments:
    """Return the arguments of the command; ``options.resume`` is None, ``required`` or ``auto``."""
    parser = Parser(prog=" ".join(TRAIN_COMMAND), description="Train an LSTM on sequential MNIST.")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="the run directory (default: runs/<preset>-<seed>-<timestamp>)"
    )
    parser.add_argument(
        "--resume",
        choices=("required", "auto"),
        metavar="[auto]",
        help="resume the run in --run-dir; auto: start it where there is none",
    )
    add_config_arguments(parser)
    return parse_arguments(parser, _with_resume_values(argv))


def train_command(
    preset: str | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> str:
    """Return a command line of ``seqmnist_tf.train``, quoted for a shell. Arguments as the command's."""
    words = [*TRAIN_COMMAND, *([preset] if preset else [])]
    for key, value in (values or {}).items():
        words += [f"--{key.replace('_', '-')}", value_text(value)]
    words += [] if run_dir is None else ["--run-dir", os.fspath(run_dir)]
    words += ["--resume"] if resume else []
    return shlex.join(words)


def _with_resume_values(argv: Sequence[str]) -> list[str]:
    """Write ``--resume`` with its value, so that a preset that follows it is not taken for one."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--resume=required" and word == "auto":
            words[-1] = "--resume=auto"
        else:
            words.append("--resume=required" if word == "--resume" else word)
    return words
