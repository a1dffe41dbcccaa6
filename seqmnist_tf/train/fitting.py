"""Training a run from its last checkpoint to its end: the epochs, the final model, the summary."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ..config import Config, has_stock_layer
from ..data import Splits, batches
from ..model import Kernel, MeasuredSequential, describe_error, make_trainable
from ..system import InputError, RunError, first_line, replace_atomically, warn
from .callbacks import DivergedError, RunCallbacks, StopRule
from .checkpoint import restore
from .command_line import train_command
from .metrics import evaluate_model, load_final_model
from .page import write_overview, write_predictions
from .run_directory import RunDirectory
from .summary import summarize
from .wandb_run import Tracker


class LayerFailedError(RunError):
    """A layer of one's own raised an error in training."""


class Ending(NamedTuple):
    """How a run ended: the ``status`` of its summary, the reason where it was stopped, the test results."""

    status: str
    reason: str | None = None
    final: dict[str, Any] | None = None


class ReadyRun(NamedTuple):
    """A run that is ready to be trained.

    Attributes:
        run: its run directory.
        config: its configuration.
        model: the model of stock layers, or of a layer of one's own, which is saved.
        splits: the images.
        kernel: computes the LSTM in training.
    """

    run: RunDirectory
    config: Config
    model: keras.Sequential
    splits: Splits
    kernel: Kernel


def fit(ready: ReadyRun, stop_rule: StopRule | None, record: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train from the last checkpoint, if there is one, to the end; write the summary and return it.

    Args:
        ready: the run.
        stop_rule: as for :func:`~seqmnist_tf.train.training.train`.
        record: the new content of ``environment.json`` where the run is resumed; the step is noted from which on.

    Raises:
        NotResumableError: the last checkpoint cannot be read, or does not belong to the run's other files.
        RunError: the disk is full, there is no memory, or a layer of one's own fails (LayerFailedError).
        KeyboardInterrupt: a signal came after the last batch; the run has ended, and its summary says how.
    """
    run, config, model, splits, kernel = ready
    trained = make_trainable(model, config, kernel)
    steps = restore(run, config, model, trained)
    if record:
        record["resumed"][-1]["first_step"] = steps
        run.write_json("environment.json", record)
    run.truncate(steps // config.steps_per_epoch, steps)
    tracker = Tracker(config, run.config_id, run.path, run.environment.get("wandb_run_id"), steps)
    callbacks = RunCallbacks(
        run, config, splits, model, stop_rule, lambda epochs: tracker.callbacks(splits.train, epochs)
    )
    ending = Ending("failed")
    try:
        ending = _train_to_end(ready, trained, tracker, callbacks)
    finally:
        callbacks.close()
        status, reason, final = ending
        summary = summarize(
            run.history(),
            config,
            status,
            parameters=model.count_params(),
            final=final,
            reason=reason,
            experiment=run.config_id,
        )
        with contextlib.suppress(OSError) if status == "failed" else contextlib.nullcontext():
            run.write_json("summary.json", summary)
        tracker.finish(summary)
    if callbacks.interruption.requested and status != "interrupted":
        raise KeyboardInterrupt
    return summary


def _train_to_end(ready: ReadyRun, trained: MeasuredSequential, tracker: Tracker, callbacks: RunCallbacks) -> Ending:
    """Train the remaining epochs, save and evaluate the final model; return how the run ended.

    Raises:
        RunError: as :func:`fit`.
    """
    run, config = ready.run, ready.config
    first_epoch = int(trained.optimizer.iterations) // config.steps_per_epoch
    try:
        with callbacks.interruption:
            trained.fit(
                batches(ready.splits.train, config, first_epoch),
                epochs=config.train.n_epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=config.steps_per_epoch,
                callbacks=callbacks.in_order,
                shuffle=False,  # ``batches`` has put them into their order
                verbose=0,
            )
            if callbacks.early_stop.reason:
                return Ending("stopped", callbacks.early_stop.reason)
            if (steps := int(trained.optimizer.iterations)) != config.train.n_epochs * config.steps_per_epoch:
                raise RunError(f"Keras ended the training after {steps:,} steps (unset KERAS_MAX_EPOCHS and the like)")
            return Ending("completed", final=_finish_model(ready, tracker, callbacks))
    except DivergedError as error:
        warn(f"{error}: the run has diverged and is stopped; everything up to here is kept")
        return Ending("diverged")
    except KeyboardInterrupt:
        return Ending("interrupted")
    except (OSError, MemoryError, tf.errors.ResourceExhaustedError) as error:
        command = train_command(run_dir=run.path, resume="required")
        hint = f"{command} starts over"
        if run.resume_file.exists():
            hint = f"the last checkpoint is intact; {command} continues from it"
        raise RunError(f"cannot continue {run.path}: {first_line(error)} ({hint})") from error
    except Exception as error:
        own_error = isinstance(error, InputError | RunError) or error is callbacks.early_stop.error
        if own_error or has_stock_layer(config):
            raise
        text = f"model.layer {config.model.layer}: it raised {describe_error(error)}"
        raise LayerFailedError(text) from error


def _finish_model(ready: ReadyRun, tracker: Tracker, callbacks: RunCallbacks) -> dict[str, Any] | None:
    """Write ``model.keras`` and return the test results of the reloaded file; None without a test set."""
    run, test = ready.run, ready.splits.test
    callbacks.close()
    path = run.path / "model.keras"
    replace_atomically(path, ready.model.save)
    tracker.log_model(path)
    if test is None:
        write_overview(run, None, None)
        return None
    reloaded = load_final_model(run, allow_code=True)  # the code has just been trained
    description = f"evaluating the saved model.keras on stock Keras: {len(test):,} test images"
    interruption = [callbacks.interruption]
    metrics = evaluate_model(reloaded, test, ready.config.test.batch_size, interruption, description)
    write_predictions(run, test, metrics)
    write_overview(run, test, metrics)
    tracker.log_predictions(test, metrics.predictions)
    return {
        "test_loss": metrics.loss,
        "test_accuracy": metrics.accuracy,
        "test_correct": metrics.correct,
        "test_total": metrics.total,
    }
