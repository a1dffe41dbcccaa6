"""The first lines of a run: where it is, what it reads, what its model is, and whether it can be published."""

from __future__ import annotations

from typing import Any

import keras

from ..config import Config, publication_problems
from ..data import Splits
from ..model import Kernel, recurrent_weights
from ..system import say
from .command_line import TRAIN_COMMAND
from .run_directory import RunDirectory


def announce_run(run: RunDirectory, config: Config, preset: str | None, splits: Splits) -> None:
    """Say where the run is, and what it reads."""
    parts = [f"{len(splits.train):,} training images"]
    if splits.validation is not None:
        parts.append(f"{len(splits.validation):,} held out")
    parts.append(f"{len(splits.test):,} test images" if splits.test is not None else "the test set is not read")
    order = "" if config.task.permutation == "none" else f", pixel order {config.task.permutation}"
    say(f"run {run.path}: preset {preset or 'none'}, seed {config.train.seed}, {', '.join(parts)}{order}")


def announce_origin(environment: dict[str, Any], config: Config) -> None:
    """Say at the start where a run cannot become a record, and why; ``environment`` is its ``environment.json``."""
    if reason := _unpublishable(environment, config):
        say(f"this run cannot be published as a record: {reason}")
    elif environment["git"]["commit"] is None:
        version = environment["versions"].get("seqmnist_tf")
        say(f"this run can be published as a record only if {version} is a released version: it is in no clone")


def _unpublishable(environment: dict[str, Any], config: Config) -> str | None:
    """Return the first reason for which :mod:`seqmnist_tf.results` will refuse a run, None where none is known yet."""
    git = environment["git"]
    if not environment["command"].startswith(train := " ".join(TRAIN_COMMAND)):
        return f"it was not started by {train}"
    if problems := publication_problems(config):
        return problems[0]
    if git["commit"] is not None and git["dirty"] is not False:
        return "the package, pyproject.toml or setup.py differ from the commit (commit them first)"
    return None


def announce_kernel(kernel: Kernel) -> None:
    """Say what computes the layer, and why where it is not the native kernel."""
    if kernel.isa:
        say(f"LSTM on the native kernel ({kernel.isa})")
    else:
        reason = kernel.reason or "train.kernel is keras"
        say(f"on stock Keras, which takes several times as long as the native kernel: {reason}")


def announce_model(config: Config, model: keras.Sequential) -> None:
    """Say what the model is where it is not the baseline's."""
    parameters, target = model.count_params(), config.model.match_parameters
    if target is not None:
        say(
            f"{config.model.hidden_size} units of {config.model.layer}: {parameters:,} parameters, "
            f"{parameters - target:+,} against model.match_parameters {target:,}"
        )
    if config.train.recurrent_noise and not recurrent_weights(model.layers[0]):
        say(f"train.recurrent_noise has no effect: {config.model.layer} names no recurrent weights")
