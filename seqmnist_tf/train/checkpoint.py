"""The last checkpoint of a run: loading it, and refusing one that does not belong to the run's files."""

from __future__ import annotations

import hashlib
import warnings

import keras
import numpy as np
import tensorflow as tf

from ..config import Config
from ..data import pixel_order
from ..model import module_code
from ..system import InputError, RunError, first_line
from .run_directory import RunDirectory
from .summary import log_problems


class NotResumableError(InputError):
    """The last checkpoint of a run cannot be read, or does not belong to the run's other files."""


def restore(run: RunDirectory, config: Config, stock: keras.Sequential, trained: keras.Model) -> int:
    """Load weights and optimizer state of the last checkpoint; return the number of its optimizer steps, or 0.

    ``stock`` is the model that is saved, on Keras alone; ``trained`` is compiled and shares its weights.

    Raises:
        NotResumableError: the checkpoint cannot be read or is missing, or does not match the configuration, the history
            or the batch losses.
        RunError: there is no memory.
    """
    if not run.resume_file.exists():
        # Killed between the first row of the history and the first checkpoint, a run has one row and perhaps one model.
        # A published record has no folder of checkpoints.
        rows, folder = len(run.history()), run.resume_file.parent
        if rows > 1 or run.epoch_file(2).exists() or not folder.is_dir():
            raise NotResumableError(
                f"{run.path} cannot be resumed: history.jsonl has {rows} epochs, and {run.resume_file} is missing "
                "(restore it, or start a new run in another folder)"  # starting over would lose what it trained
            )
        return 0
    trained.optimizer.build(trained.trainable_variables)
    try:
        with warnings.catch_warnings():
            # Keras warns, and goes on, where the file has no optimizer state that fits.
            warnings.filterwarnings("error", message=".*Skipping variable loading for optimizer.*")
            trained.load_weights(run.resume_file)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise RunError(f"not enough memory for checkpoint {run.resume_file} (free some, and resume again)") from error
    except Exception as error:
        reason = f"cannot read checkpoint {run.resume_file}: {first_line(error)}"
        if not isinstance(error, OSError) and "optimizer" in str(error).lower():  # Keras's text has objects' addresses
            reason = f"checkpoint {run.resume_file} has no state of the optimizer"
        raise NotResumableError(f"{reason} (restore it, or start a new run in another folder)") from error
    steps = int(trained.optimizer.iterations)
    if problem := _step_problem(run, config, steps) or _weight_problem(run, stock, steps // config.steps_per_epoch):
        raise NotResumableError(f"{run.path} cannot be resumed: {problem}")
    return steps


def _step_problem(run: RunDirectory, config: Config, steps: int) -> str | None:
    """Return where the number of optimizer steps contradicts the configuration, or the logs do so up to there."""
    epochs, rest = divmod(steps, config.steps_per_epoch)
    if rest or not 1 <= epochs <= config.train.n_epochs:
        return (
            f"the checkpoint has {steps:,} optimizer steps, which is not 1 to {config.train.n_epochs} epochs of "
            f"{config.steps_per_epoch:,} steps"
        )
    try:
        return next(iter(log_problems(run, epochs=epochs)), None)
    except InputError as error:
        return str(error)


def _weight_problem(run: RunDirectory, stock: keras.Sequential, epoch: int) -> str | None:
    """Return whether the checkpoint has other weights than the model that was saved after its epoch."""
    path = run.epoch_file(epoch)
    if not path.exists():
        return None
    loaded = stock.get_weights()
    try:
        stock.load_weights(path)
    except Exception as error:
        return f"cannot read {path}: {first_line(error)} (remove it)"
    saved = stock.get_weights()
    stock.set_weights(loaded)
    if all(np.array_equal(a, b, equal_nan=True) for a, b in zip(loaded, saved, strict=True)):
        return None
    return f"checkpoints/resume.keras and {path.name} have different weights"


def require_own_files(run: RunDirectory, config: Config) -> None:
    """Raise NotResumableError where the files of a run do not belong to the experiment that it began as.

    Records of older versions lack the seed and the hash of the pixel order; these two are then not checked.
    """
    record = run.environment
    recorded = {
        "config_id": (record.get("config_id"), run.config_id),
        "seed": (record.get("seed", config.train.seed), config.train.seed),
        "pixel order": (record.get("pixel_order_sha256"), order_hash(run.pixel_order())),
    }
    for name, (was, now) in recorded.items():
        if was is not None and was != now:
            raise NotResumableError(
                f"{run.path} cannot be resumed: it began with {name} {was}, and its files now have {now} "
                "(restore config.json, pixel_order.txt and what the run has of its layer)"
            )
    permutation = config.task.permutation
    if not permutation.startswith("file:") and not np.array_equal(run.pixel_order(), pixel_order(permutation)):
        raise NotResumableError(
            f"{run.path} cannot be resumed: pixel_order.txt is not the order of task.permutation {permutation}"
        )


def require_same_code(run: RunDirectory, config: Config) -> None:
    """Raise InputError where the module of a run's layer is no more the one that it began with; this may import it.

    It is no NotResumableError, at which a search would train the run anew. Runs of older versions have no hash of it,
    and layers from a file have a copy in the run.
    """
    was = run.environment.get("layer_code")
    if was is not None and was != module_code(config, run.layer_file):
        raise InputError(
            f"{run.path} cannot be resumed: it began with another version of {config.model.layer} (restore the module, "
            "or start a new run in another folder)"
        )


def order_hash(order: np.ndarray) -> str:
    """Return the SHA-256 of a pixel order int (784,), as text with one index a line."""
    return hashlib.sha256("".join(f"{pixel}\n" for pixel in order).encode()).hexdigest()
