"""The command line of ``seqmnist_tf.train`` that gives a configuration, for the records of a comparison's runs."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..config import PRESETS, Config, differences, value_text
from ..train import TRAIN_COMMAND


def nearest_preset(config: Config) -> str:
    """Return the preset that differs from a configuration in the fewest keys, the first among equal ones."""
    return min(PRESETS, key=lambda name: len(differences(config, PRESETS[name].config)))


def train_command(config: Config, run_dir: Path) -> str:
    """Return the command that trains a configuration: a preset, then each key that differs from it.

    Example:
        >>> train_command(PRESETS["adam"].config, Path("runs/a"))
        'python -m seqmnist_tf.train adam --run-dir runs/a'
    """
    name = nearest_preset(config)
    words = [*TRAIN_COMMAND, name]
    for key, value in differences(config, PRESETS[name].config).items():
        words += [f"--{key.replace('_', '-')}", value_text(value)]
    return shlex.join([*words, "--run-dir", str(run_dir)])


def resume_command(run_dir: Path) -> str:
    """Return the command that resumes a run."""
    return shlex.join([*TRAIN_COMMAND, "--run-dir", str(run_dir), "--resume"])
