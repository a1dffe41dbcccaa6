"""The trials of a search for TensorBoard's HParams page, by its own API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api

from ..system import first_line, warn
from ..train import RunDirectory
from .folder import SearchFolder
from .space import Dimension

SUFFIX = ".hparams"
METRIC = "val_accuracy"


def log_hparams(search: SearchFolder, row: dict[str, Any]) -> None:
    """Write the values and the score of a trial's row to its ``tensorboard/``, once, where that is switched on.

    The search's ``tensorboard/`` gets the space. Repeats are left out: they have the values of their trial.
    """
    if not search.base.tensorboard.enabled:
        return
    try:
        _write(search, row["trial"], row["hyperparameters"], row["score"])
    except Exception as error:  # of any kind: the trial has its score
        warn(f"trial {row['trial']} is not on TensorBoard's page HParams: {first_line(error)}")


def _write(search: SearchFolder, trial_id: str, values: dict[str, Any], score: float) -> None:
    hparams = {_hparam(row): _value(row, values[row.name]) for row in search.space if row.applies(values)}
    if writer := _new_writer(search.path / "tensorboard"):
        with writer.as_default():
            metric = api.Metric(METRIC, display_name="validation accuracy")
            api.hparams_config([_hparam(row) for row in search.space], [metric])
        writer.close()
    run = RunDirectory(search.trial_path(trial_id))
    if writer := _new_writer(run.path / "tensorboard"):
        callback = api.KerasCallback(writer, hparams, trial_id=trial_id)
        callback.on_train_begin()
        with writer.as_default():
            tf.summary.scalar(METRIC, score, step=len(run.history()))
        callback.on_train_end()
        writer.close()


def _new_writer(folder: Path) -> Any:
    """Return a writer of a file in a folder, None where it has one of an earlier call."""
    if any(folder.glob(f"*{SUFFIX}")):
        return None
    return tf.summary.create_file_writer(str(folder), filename_suffix=SUFFIX)


def _hparam(row: Dimension) -> api.HParam:
    if row.choices:
        return api.HParam(row.name, api.Discrete(list(row.choices)))
    domain = api.IntInterval if row.integer else api.RealInterval
    number = int if row.integer else float
    return api.HParam(row.name, domain(number(row.low or 0), number(row.high or 0)))


def _value(row: Dimension, value: Any) -> Any:
    if row.choices:
        return value
    return int(value) if row.integer else float(value)
