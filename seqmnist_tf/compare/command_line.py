"""The preset, and the command of ``seqmnist_tf.train`` from it, that give a run of a comparison."""

from __future__ import annotations

from pathlib import Path

from ..config import PRESETS, Config, differences
from ..train import train_command


def nearest_preset(config: Config) -> str:
    """Return the preset that differs from a configuration in the fewest keys, the first among equal ones."""
    return min(PRESETS, key=lambda name: len(differences(config, PRESETS[name].config)))


def shortest_command(config: Config, run_dir: Path) -> str:
    """Return the command that trains a configuration: a preset, then each key that differs from it.

    Example:
        >>> shortest_command(PRESETS["adam"].config, Path("runs/a"))
        'python -m seqmnist_tf.train adam --run-dir runs/a'
    """
    name = nearest_preset(config)
    return train_command(name, differences(config, PRESETS[name].config), run_dir=run_dir)
