"""The commands of the package.

python -m seqmnist_tf lists them; seqmnist COMMAND ARGUMENTS is python -m seqmnist_tf.COMMAND ARGUMENTS.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from typing import NoReturn

from . import system

COMMANDS = {
    "data": "prepare MNIST, for example on a node that has a network",
    "train": "train a configuration",
    "check": "check a custom layer: shape, size, kernel, speed",
    "evaluate": "exact test metrics of a finished run",
    "compare": "layers and configurations side by side, over seeds, with tests",
    "tune": "search for hyperparameters",
    "export": "write a SavedModel for TF Serving",
    "serve": "answer requests as TF Serving does, with a page to draw on",
    "client": "classify pictures with a server",
    "benchmark": "speed of training on this machine, beside stock Keras",
    "results": "the published records: verify, replay, add",
}
USAGE = "\n".join(
    [
        "usage: seqmnist COMMAND ...        (or: python -m seqmnist_tf.COMMAND ...)",
        "",
        *(f"  {name:<10} {text}" for name, text in COMMANDS.items()),
        "",
        "seqmnist --version prints the version.",
        "Each command has --help. A first run of a few minutes: seqmnist train quickstart",
    ]
)


def main(argv: list[str]) -> int:
    """List the commands, or run one of them; return the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        system.say(USAGE)
        return system.EXIT_DONE
    if argv[0] == "--version":
        system.say(importlib.metadata.version("seqmnist_tf"))
        return system.EXIT_DONE
    name, *rest = argv
    if name not in COMMANDS:
        raise system.InputError(f"unknown command {name!r} (allowed: {', '.join(COMMANDS)})")
    module = f"seqmnist_tf.{name}"
    if hasattr(importlib.import_module(module), "__path__"):
        module += ".__main__"
    status: int = importlib.import_module(module).main(rest)
    return status


def run() -> NoReturn:
    """Run the console script. Like ``python -m``, it finds modules of the working directory, for ``MODULE:NAME``."""
    sys.path.insert(0, "")
    system.run_command(main)


if __name__ == "__main__":
    run()
