"""The last checkpoint of a run: loading it, and refusing one that does not belong to the run's files."""

from __future__ import annotations

import hashlib
import warnings

import keras
import numpy as np

from ..config import Config
from ..system import InputError, reading
from .run_directory import RunDirectory
from .summary import log_problems


def restore(run: RunDirectory, config: Config, trained: keras.Model) -> int:
    """Load weights and optimizer state of the last checkpoint; return the number of its optimizer steps, or 0.

    ``trained`` is compiled. InputError is raised where the checkpoint is missing, cannot be read, or does not
    match the logs.
    """
    if not run.resume_file.exists():
        if len(run.history()) > 1:  # a kill can come between the first row and the first checkpoint
            raise InputError(f"{run.path} cannot be resumed: {run.resume_file} is missing")
        return 0
    trained.optimizer.build(trained.trainable_variables)
    with reading(run.resume_file), warnings.catch_warnings():
        # Keras warns, and goes on, where the file has no optimizer state that fits.
        warnings.filterwarnings("error", message=".*Skipping variable loading for optimizer.*")
        trained.load_weights(run.resume_file)
    steps = int(trained.optimizer.iterations)
    if problems := log_problems(run, epochs=steps // config.steps_per_epoch):
        raise InputError(f"{run.path} cannot be resumed: {problems[0]}")
    return steps


def require_own_files(run: RunDirectory, config: Config) -> None:
    """Raise InputError where a run has another configuration or pixel order than it began with."""
    now = {"config_id": run.config_id, "seed": config.train.seed, "pixel_order_sha256": order_hash(run.pixel_order())}
    record = run.environment
    for key, value in now.items():
        if record.get(key, value) != value:
            raise InputError(f"{run.path} cannot be resumed: it began with {key} {record[key]} (now {value})")


def order_hash(order: np.ndarray) -> str:
    """Return the SHA-256 of a pixel order int (784,), as text with one index a line."""
    return hashlib.sha256("".join(f"{pixel}\n" for pixel in order).encode()).hexdigest()
