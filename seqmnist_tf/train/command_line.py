"""The command line of ``seqmnist_tf.train``, as the command reads it and as a record holds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import Arguments, add_config_arguments, parse_arguments
from ..system import Parser

TRAIN_COMMAND = ("python", "-m", "seqmnist_tf.train")  # how a recorded command line begins


def parse_train_arguments(argv: Sequence[str]) -> Arguments:
    """Return the arguments of ``python -m seqmnist_tf.train``; ``options`` has ``run_dir`` and ``resume``.

    ``resume`` is None, ``required`` or ``auto``.

    Raises:
        InputError: an unknown option or key, an unreadable file, a value that is not allowed.
    """
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


def _with_resume_values(argv: Sequence[str]) -> list[str]:
    """Write ``--resume`` with its value, so that a preset that follows it is not taken for one."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--resume=required" and word == "auto":
            words[-1] = "--resume=auto"
        else:
            words.append("--resume=required" if word == "--resume" else word)
    return words
